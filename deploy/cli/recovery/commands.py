"""Runs `pinflow recover`: compares positions with Kafka's log, and accepts or settles losses."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.recovery.positions import PartitionFilter, PositionOwner, PositionTopic
from deploy.cli.tables import print_json, print_rows

if TYPE_CHECKING:
    from deploy.cli.recovery.comparison import AcceptedLoss, Comparison
    from deploy.cli.recovery.summary import Survey, UnfinishedJobs

MAX_JOBS_SHOWN = 10
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


def recover(
    service: Annotated[
        PositionOwner | None, typer.Option(help="Only this service's positions.")
    ] = None,
    topic: Annotated[PositionTopic | None, typer.Option(help="Only this topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    minutes: Annotated[
        int,
        typer.Option(
            "--older-than",
            metavar="MINUTES",
            min=1,
            help="With --fail-lost: leave younger imports.",
        ),
    ] = 10,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="With --fail-lost: wait until all is read. Takes about a minute.",
        ),
    ] = 90,
    *,
    accept: Annotated[bool, typer.Option("--accept", help="Accept the losses shown.")] = False,
    fail_lost: Annotated[
        bool,
        typer.Option("--fail-lost", help="Settle rows that Kafka lost as failed (row_lost)."),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Also show partitions that are ok.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare stored positions with Kafka's log after a restore; show what is lost, and accept it.

    Without --accept or --fail-lost nothing is changed. Needs PINFLOW_DATABASE_URL (the owner's) and
    PINFLOW_KAFKA_…. docs/how-to/restore-a-backup.md goes through each case. Exit code 0: nothing
    must be accepted; 2: nothing was done; 3: try again; 4: a loss must be accepted.
    """
    partition_filter = PartitionFilter(service, topic, partition)
    if fail_lost:
        if accept or partition_filter != PartitionFilter():
            fail("--fail-lost takes neither --accept nor --service, --topic and --partition.")
        _fail_lost(minutes=minutes, seconds=wait, yes=yes, as_json=as_json)
    else:
        _compare(partition_filter, accept=accept, every=every, yes=yes, as_json=as_json)


def _compare(
    partition_filter: PartitionFilter, *, accept: bool, every: bool, yes: bool, as_json: bool
) -> None:
    survey, shown, unfinished = _backend().survey(partition_filter)
    if not shown and survey.comparisons:
        fail("No partition has that service, topic and number. See all with: pinflow recover --all")
    waiting = [one for one in shown if one.must_be_accepted]
    document = _document(survey, shown, unfinished)
    if not as_json:
        _print(document, every=every)
    accepted: list[AcceptedLoss] = []
    if accept and waiting:
        _confirm(f"Accept the loss in {len(waiting)} partition(s)?", yes=yes)
        accepted = _backend().accept(waiting)
        document["accepted"] = [one.document() for one in accepted]
        if not as_json:
            _print_accepted(accepted, waiting)
    if as_json:
        print_json(document)
    if len(accepted) < len(waiting):
        raise typer.Exit(ExitCode.LOSS_NOT_ACCEPTED)


def _fail_lost(*, minutes: int, seconds: float, yes: bool, as_json: bool) -> None:
    waiting = f"Waiting up to {seconds:g} s until all of Kafka is read."
    typer.echo(f"{waiting} (The publisher stays a minute behind in outcomes.)", err=True)
    jobs, ends = _backend().find_lost(minutes, seconds)
    rows = sum(len(job.rows()) for job in jobs)
    keys = _backend().promised_keys()
    report: dict[str, Any] = {
        "jobs": len(jobs),
        "rows": rows,
        "job_ids": [str(job.job_id) for job in jobs],
        "settled": None,
        "promised_keys": keys,
        "freed_keys": 0,
    }
    if not as_json:
        old = f"{len(jobs)} unfinished job(s), accepted more than {minutes} minutes ago"
        typer.echo(f"{old}, have {rows} row(s) without a result.")
        if keys:
            typer.echo(f"{keys} key(s) are kept for rows that were created and that Kafka lost.")
    if rows or keys:
        _confirm(
            "Settle these rows (published ones as created, others as failed) and free the keys?",
            yes=yes,
        )
    if rows:
        report["settled"] = dict(_backend().fail_lost(jobs, ends))
    if keys:
        report["freed_keys"] = _backend().free_keys(ends)
    if as_json:
        print_json(report)
    elif rows:
        results = ", ".join(f"{count} {status}" for status, count in report["settled"].items())
        typer.echo(f"Settled: {results or 'none, all have results by now'}.")
    if report["freed_keys"] and not as_json:
        typer.echo(f"Freed: {report['freed_keys']} key(s).")


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail(
            "Nothing was changed. Read what would be done, then add --yes.",
        )
    if not typer.confirm(question, err=True):
        fail("Nothing was changed.")


def _document(
    survey: "Survey",
    shown: "list[Comparison]",
    unfinished: "UnfinishedJobs | None",
) -> dict[str, Any]:
    from deploy.cli.recovery.comparison import count_states  # noqa: PLC0415 - imports Kafka's client
    from deploy.cli.recovery.summary import summarize  # noqa: PLC0415

    return {
        "cluster_id": survey.cluster_id,
        "counts": count_states(shown),
        "partitions": [one.document() for one in shown],
        "summary": summarize(survey, shown),
        "unfinished": unfinished.document() if unfinished else None,
        "accepted": None,
    }


def _print(document: dict[str, Any], *, every: bool) -> None:
    partitions = [one for one in document["partitions"] if every or one["state"] != "ok"]
    if partitions and (every or document["counts"]["new"] < len(document["partitions"])):
        print_rows(partitions, COLUMNS)
        typer.echo()
    for sentence in document["summary"]:
        typer.echo(sentence)
    if (unfinished := document["unfinished"]) and unfinished["jobs"]:
        typer.echo(
            f"Status has {unfinished['jobs']} unfinished job(s) with {unfinished['rows']} row(s) "
            "without a result. The oldest (all with --json):"
        )
        for job_id in unfinished["job_ids"][:MAX_JOBS_SHOWN]:
            typer.echo(f"  {job_id}")


def _print_accepted(accepted: "list[AcceptedLoss]", waiting: "list[Comparison]") -> None:
    typer.echo(f"Accepted in {len(accepted)} partition(s):")
    for one in accepted:
        typer.echo(f"  {_describe(one)}")
    if changed := len(waiting) - len(accepted):
        typer.echo(
            f"{changed} partition(s) changed meanwhile and were left. Look again: pinflow recover",
        )
    typer.echo(
        "Services go on within seconds, without a restart. Watch: pinflow recover. When nothing "
        "is behind: pinflow recover --fail-lost",
    )


def _describe(one: "AcceptedLoss") -> str:
    comparison = one.comparison
    place = f"{comparison.service} {comparison.topic_name}/{comparison.partition}"
    if one.next_offset is None:
        return f"{place}: position deleted; Kafka has no such partition"
    was = comparison.stored.next_offset if comparison.stored else None
    return f"{place}: {was} → {one.next_offset}"


def _backend() -> ModuleType:
    from deploy.cli.recovery import backend as recovery_backend  # noqa: PLC0415 - takes a second

    return recovery_backend
