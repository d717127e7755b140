"""The command `pinflow recover`: shows, accepts and settles what a restore has lost."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.counts import choose_verb, number_of
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.options import AsJson, Yes
from deploy.cli.recovery.positions import PartitionFilter, PositionOwner, PositionTopic
from deploy.cli.tables import print_json, print_rows

if TYPE_CHECKING:
    from deploy.cli.recovery.comparison import AcceptedLoss, Comparison
    from deploy.cli.recovery.summary import Survey, UnfinishedJobs

commands = typer.Typer()

MAX_JOBS_SHOWN = 10
MAX_PINS_SHOWN = 10
PIN_COLUMNS = ("pinterest_pin_id", "pin_id", "account_id", "board_id", "title")
COLUMNS = (
    "service",
    "topic",
    "partition",
    "stored",
    "committed",
    "begin",
    "end",
    "records",
    "state",
)


@commands.command()
def recover(
    service: Annotated[
        PositionOwner | None, typer.Option(help="Only positions of this service.")
    ] = None,
    topic: Annotated[
        PositionTopic | None, typer.Option(help="Only positions on this topic.")
    ] = None,
    partition: Annotated[
        int | None, typer.Option(min=0, help="Only positions in partitions with this number.")
    ] = None,
    minutes: Annotated[
        int,
        typer.Option(
            "--older-than",
            metavar="MINUTES",
            min=1,
            help="With --fail-lost: only imports that were accepted longer ago than this.",
        ),
    ] = 10,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="With --fail-lost: wait at most this long until services have read all records. "
            "This usually takes a minute.",
        ),
    ] = 90,
    *,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept the losses that are shown.")
    ] = False,
    fail_lost: Annotated[
        bool,
        typer.Option(
            "--fail-lost",
            help="Settle rows without a result: published ones as created, rows that Kafka lost as "
            "failed (row_lost).",
        ),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Also show partitions that are ok.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Compare the services' stored positions with Kafka's log after a restore, and accept losses.

    Changes nothing without --accept or --fail-lost. PINFLOW_DATABASE_URL must be
    the URL of the database's owner; the PINFLOW_KAFKA_… variables are read, too.
    docs/how-to/restore-a-backup.md describes each case.

    Exit codes:
    0: there is no loss to accept
    2: nothing was done
    3: a server did not answer, or it is too early for --fail-lost; try again
    4: there is a loss to accept
    """
    partition_filter = PartitionFilter(service, topic, partition)
    if fail_lost:
        if accept or partition_filter != PartitionFilter():
            fail(
                "--fail-lost can't be combined with --accept, --service, --topic or --partition. "
                "Leave these out."
            )
        _fail_lost(minutes=minutes, seconds=wait, yes=yes, as_json=as_json)
    else:
        _compare(partition_filter, accept=accept, every=every, yes=yes, as_json=as_json)


def _compare(
    partition_filter: PartitionFilter, *, accept: bool, every: bool, yes: bool, as_json: bool
) -> None:
    survey, shown, unfinished = _load_backend().survey(partition_filter)
    if not shown and survey.comparisons:
        fail(
            "No partition matches --service, --topic and --partition. See all partitions with: "
            "pinflow recover --all"
        )
    losses = [comparison for comparison in shown if comparison.must_be_accepted]
    document = _document(survey, shown, unfinished)
    if not as_json:
        _print(document, every=every)
    accepted: list[AcceptedLoss] = []
    if accept and losses:
        _confirm(f"Accept the loss in {number_of(len(losses), 'partition')}?", yes=yes)
        accepted = _load_backend().accept(losses)
        document["accepted"] = [loss.document() for loss in accepted]
        if not as_json:
            _print_accepted(accepted, losses)
    if as_json:
        print_json(document)
    if len(accepted) < len(losses):
        raise typer.Exit(ExitCode.LOSS_NOT_ACCEPTED)


def _fail_lost(*, minutes: int, seconds: float, yes: bool, as_json: bool) -> None:
    typer.echo(
        f"Waiting up to {seconds:g} s until the publisher and status have read all records. "
        "(Usually a minute: the publisher's position in outcomes is a minute behind the end.)",
        err=True,
    )
    jobs, ends = _load_backend().find_lost_rows(minutes, seconds)
    rows = sum(len(job.rows()) for job in jobs)
    keys = _load_backend().count_reserved_keys()
    report: dict[str, Any] = {
        "jobs": len(jobs),
        "rows": rows,
        "job_ids": [str(job.job_id) for job in jobs],
        "settled": None,
        "reserved_keys": keys,
        "freed_keys": 0,
    }
    if not as_json:
        _print_found(len(jobs), rows, keys, minutes)
    if rows or keys:
        _confirm(
            "Settle these rows (published ones as created, others as failed) and free these keys?",
            yes=yes,
        )
    if rows:
        report["settled"] = dict(_load_backend().settle_lost_rows(jobs, ends))
    if keys:
        report["freed_keys"] = _load_backend().free_reserved_keys(ends)
    if as_json:
        print_json(report)
    else:
        _print_settled(report["settled"], report["freed_keys"])


def _print_found(jobs: int, rows: int, keys: int, minutes: int) -> None:
    typer.echo(
        f"{number_of(jobs, 'unfinished job')}, accepted more than {minutes} minutes ago, "
        f"{choose_verb(jobs, 'has', 'have')} {number_of(rows, 'row')} without a result."
    )
    if keys:
        typer.echo(
            f"{number_of(keys, 'idempotency key')} {choose_verb(keys, 'is', 'are')} reserved for "
            "rows that were reported as created and that Kafka lost."
        )


def _print_settled(settled: dict[str, int] | None, freed_keys: int) -> None:
    """Prints what was done. `settled` is None if there was no row to settle."""
    if settled is not None:
        results = ", ".join(f"{count} {status}" for status, count in settled.items())
        typer.echo(
            f"Settled rows: {results}." if results else "No row was settled: all have results now."
        )
    if freed_keys:
        typer.echo(f"Freed {number_of(freed_keys, 'idempotency key')}.")


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail(
            "Nothing was changed, because the command can't ask you here. Check what it would do, "
            "then add --yes."
        )
    if not typer.confirm(question, err=True):
        fail("Nothing was changed.")


def _document(
    survey: "Survey",
    shown: "list[Comparison]",
    unfinished: "UnfinishedJobs | None",
) -> dict[str, Any]:
    # Not at the top: they import Kafka's client, which takes a second
    from deploy.cli.recovery.comparison import count_states  # noqa: PLC0415
    from deploy.cli.recovery.summary import summarize  # noqa: PLC0415

    return {
        "cluster_id": survey.cluster_id,
        "counts": count_states(shown),
        "partitions": [comparison.document() for comparison in shown],
        "summary": summarize(survey, shown),
        "unfinished": unfinished.document() if unfinished else None,
        "lost_pins": [pin.document() for pin in survey.lost_pins],
        "accepted": None,
    }


def _print(document: dict[str, Any], *, every: bool) -> None:
    partitions = [
        partition for partition in document["partitions"] if every or partition["state"] != "ok"
    ]
    if partitions and (every or document["counts"]["new"] < len(document["partitions"])):
        print_rows(partitions, COLUMNS)
        typer.echo()
    for sentence in document["summary"]:
        typer.echo(sentence)
    if (unfinished := document["unfinished"]) and unfinished["jobs"]:
        typer.echo(
            f"Status has {number_of(unfinished['jobs'], 'unfinished job')} with "
            f"{number_of(unfinished['rows'], 'row')} without a result. At most {MAX_JOBS_SHOWN} "
            "follow, oldest first; --json lists all."
        )
        for job_id in unfinished["job_ids"][:MAX_JOBS_SHOWN]:
            typer.echo(f"  {job_id}")
    if pins := document["lost_pins"]:
        typer.echo(f"At most {MAX_PINS_SHOWN} of these pins follow; --json lists all.")
        print_rows(pins[:MAX_PINS_SHOWN], PIN_COLUMNS)


def _print_accepted(accepted: "list[AcceptedLoss]", losses: "list[Comparison]") -> None:
    typer.echo(f"Accepted the loss in {number_of(len(accepted), 'partition')}. New positions:")
    for loss in accepted:
        typer.echo(f"  {_describe(loss)}")
    if changed := len(losses) - len(accepted):
        typer.echo(
            f"{number_of(changed, 'partition')} changed meanwhile and "
            f"{choose_verb(changed, 'was', 'were')} not accepted. To check: pinflow recover"
        )
    typer.echo(
        "The services continue within seconds, without a restart. Check them with: pinflow "
        "recover. When no partition is behind, settle the lost rows with: pinflow recover "
        "--fail-lost"
    )


def _describe(loss: "AcceptedLoss") -> str:
    comparison = loss.comparison
    partition = f"{comparison.service} {comparison.topic_name}/{comparison.partition}"
    if loss.next_offset is None:
        return f"{partition}: the position was deleted, because Kafka has no such partition"
    before = comparison.stored.next_offset if comparison.stored else None
    return f"{partition}: {before} → {loss.next_offset}"


def _load_backend() -> ModuleType:
    # Not at the top: the import takes a second, and other commands do not need it
    from deploy.cli.recovery import backend as recovery_backend  # noqa: PLC0415

    return recovery_backend
