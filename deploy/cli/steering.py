"""Commands that follow, mend, cancel and undo an import."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.client import IMPORTS, PinflowClient
from deploy.cli.combined_job import AcceptedPortion, Job
from deploy.cli.corrections import parse_corrections
from deploy.cli.counts import choose_verb, number_of
from deploy.cli.downloads import (
    STDOUT,
    download_failed_rows,
    explain_failed_file,
    require_new_file,
    write_file,
)
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.imports import report
from deploy.cli.job_tables import print_results
from deploy.cli.options import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    BaseUrl,
    JobId,
    Limit,
    MaxRetrySeconds,
    Yes,
)
from deploy.cli.questions import require_confirmation
from deploy.cli.submission import follow
from deploy.cli.tables import print_json, print_more, print_table, printable
from deploy.cli.waiting_pins import report_waiting
from shared.contract.events import RowStatus

commands = typer.Typer()

LEFT_REASONS = {
    "changed": "changed since by somebody, or by an import with --on-existing update",
    "canceled": "canceled by somebody: its idempotency key stays taken",
    "deleted": "deleted before: its idempotency key stays taken",
    "published": "published already",
    "failed": "could not be published",
    "publishing": "being sent to Pinterest: run the command again in a few minutes",
    "unconfirmed": "perhaps on Pinterest: look on its board, and delete it there",
    "refused": "still on Pinterest, which refused to remove it: delete it there",
    "account_not_permitted": "of an account that your API key may not use",
}


@commands.command("results")
def show_results(
    job_id: JobId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    limit: Limit = 20,
    status: Annotated[RowStatus | None, typer.Option(help="Only rows with this result.")] = None,
    error_code: Annotated[
        str | None, typer.Option("--error-code", help="Only rows that failed with this code.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search", metavar="TEXT", help="Only rows with this text in their key or error."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write your file with the result of each row to this new file, or to standard "
            "output for -.",
        ),
    ] = None,
    failed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the failed rows with their errors to this new file, or to standard output "
            "for -, to correct them and import them again.",
        ),
    ] = None,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the results of an import's rows, or write them to a file in your file's own form."""
    is_filtered = status is not None or error_code is not None or search is not None
    files = [path for path in (csv, failed) if path is not None]
    if len(files) + (is_filtered or as_json) > 1 and files:
        fail(
            "--csv and --failed write a whole file. Use one of them, without --status, "
            "--error-code, --search and --json."
        )
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        if csv is not None:
            require_new_file(csv)
            write_file(csv, client.download(f"{IMPORTS}/{job_id}/results.csv"))
            if csv != STDOUT:
                typer.echo(f"Wrote the result of each row to {printable(str(csv))}.", err=True)
            return
        if failed is not None:
            _write_failed_rows(client, job_id, failed)
            return
        filters = {"status": status, "error_code": error_code, "q": search}
        listing = client.list_items(f"{IMPORTS}/{job_id}/results", filters, limit)
    if as_json:
        print_json(listing.items)
    elif listing.items:
        print_results(listing.items, job_id)
    else:
        typer.echo("No row has a result, or your filters exclude it.")
    print_more(listing)


@commands.command("watch")
def watch_import(
    job_id: JobId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 60,
    *,
    as_json: AsJson = False,
) -> None:
    """Follow an import until each of its rows has a result, then show them.

    Exit codes:
    0: all rows were created or existed already
    1: some or all rows failed, or exist already but will not be published
    2: there is no such import, or the command line is wrong
    3: a server did not answer, or you stopped the command; try again
    """
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        job = follow(client, job_id)
        code = report(job, as_json=as_json)
        if not as_json:
            report_waiting(client, job, [job_id])
    raise typer.Exit(code)


@commands.command("retry")
def retry_import(
    job_id: JobId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    corrections: Annotated[
        list[str] | None,
        typer.Option(
            "--correct",
            metavar="ROW:FIELD=VALUE",
            help="Replace a field of a failed row, for example 3:title=Desk lamp. An empty value "
            "removes the field. Can be repeated.",
        ),
    ] = None,
    max_retry_seconds: MaxRetrySeconds = 60,
    *,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Return when the import is accepted, before rows settle."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import the failed rows of an import again, with corrections. They become a new import.

    The rows come from the file that Pinflow has stored, with their idempotency
    keys and the options of the import. ROW is a row number of this import. You
    can repeat the command: the same corrections are the same new import.

    Exit codes:
    0: all rows were created or existed already; with --no-wait, all rows were accepted
    1: some or all rows failed again, or exist already but will not be published
    2: nothing was imported: no row has failed, the file is not stored any more, or a correction \
or the command line is wrong
    3: a server did not answer, or you stopped the command; try again
    """
    try:
        parsed = parse_corrections(corrections or ())
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="--correct") from None
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        answer = client.command(f"{IMPORTS}/{job_id}/retry", {"corrections": parsed})
        child: Job = answer.document
        if not as_json:
            was = "was accepted before" if answer.is_replay else "was accepted"
            typer.echo(f"Import {child['id']} with {number_of(child['total_rows'], 'row')} {was}.")
        if no_wait:
            if as_json:
                print_json(child)
            return
        job = follow(client, child["id"])
    raise typer.Exit(report(job, as_json=as_json))


@commands.command("cancel")
def cancel_import(
    job_id: JobId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    scheduled: Annotated[
        bool,
        typer.Option(
            "--scheduled",
            help="Also cancel the schedules that the import has created, and withdraw its pins "
            "that wait for Pinterest.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel the rows of an import that have no result yet. They fail with the code canceled.

    With --scheduled, it also cancels the import's schedules, and deletes its pins
    that wait for their delivery to Pinterest, unless somebody has changed them.
    These are never sent. Their idempotency keys stay taken. What is on Pinterest
    stays there. On a terminal the command asks before it does so; elsewhere it
    needs --yes. You can repeat it.

    Exit codes:
    0: no row waits any more; with --scheduled, nothing of the import waits any more
    1: some schedules or pins were left; the table says why
    2: nothing was canceled: the request or the command line is wrong, or you answered no
    3: a server did not answer; try again
    """
    if scheduled:
        require_confirmation(
            f"Cancel the schedules of import {job_id}, and delete its pins that wait for "
            "Pinterest?",
            "canceled",
            yes=yes,
        )
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        canceled = client.command(
            f"{IMPORTS}/{job_id}/cancel",
            parameters={"scheduled": "true" if scheduled else None},
        ).document
    print_json(canceled) if as_json else _print_cancellation(canceled, with_schedules=scheduled)
    raise typer.Exit(_find_code(canceled["left"]))


@commands.command("undo")
def undo_import(
    job_id: JobId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be undone.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete what an import created and nobody has changed since. Its idempotency keys are free.

    Published pins are deleted, and schedules are canceled and deleted. Pins on
    Pinterest are removed there first, which takes a while: run the command again
    to see how far it is. Their keys are free after that. Afterwards
    the file can be imported again: its rows are created anew. The import itself
    keeps its results. On a terminal the command shows the numbers and asks
    first. You can repeat it. The API key needs the scope destructive.

    Exit codes:
    0: all that the import created is undone; with --dry-run, it would be
    1: some pins or schedules are left, or would be; the table says why
    2: nothing was undone: the import has not ended, the request or the command line is wrong, or \
you answered no
    3: a server did not answer; try again
    """
    path = f"{IMPORTS}/{job_id}/undo"
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        if dry_run or not yes:
            plan, is_done = client.command(path, parameters={"dry_run": "true"})
            if dry_run:
                print_json(plan) if as_json else _print_undo(plan, is_done=is_done)
                raise typer.Exit(_find_code(plan["left"]))
            if not is_done and plan["undone_rows"]:
                require_confirmation(f"{_describe_plan(plan)} Undo it?", "undone", yes=yes)
        undone, is_replay = client.command(path)
    print_json(undone) if as_json else _print_undo(undone, is_done=is_replay)
    raise typer.Exit(_find_code(undone["left"]))


def _write_failed_rows(client: PinflowClient, job_id: str, path: Path) -> None:
    require_new_file(path)
    job = client.job(job_id)
    if job["completed_at"] is not None and not job["failed_rows"]:
        fail("No row of this import failed, so there is no file to write.")
    portion = AcceptedPortion(1, job["total_rows"], job)
    write_file(path, download_failed_rows(client, [portion]))
    if path != Path("-"):
        explain_failed_file(path, job["failed_rows"], f"pinflow import {path}")


def _find_code(left: Sequence[object]) -> ExitCode:
    return ExitCode.PINS_LEFT if left else ExitCode.DONE


def _print_cancellation(canceled: dict[str, Any], *, with_schedules: bool) -> None:
    counters = ", ".join(
        f"{canceled[f'{name}_rows']} {name}" for name in ("created", "existing", "failed")
    )
    typer.echo(
        f"Import {canceled['id']}: {canceled['status']}. {canceled['processed_rows']} of "
        f"{canceled['total_rows']} rows have a result: {counters}, of which "
        f"{canceled['canceled_rows']} canceled."
    )
    if not (canceled["canceled_rows"] or canceled["unsettled_rows"] or with_schedules):
        typer.echo(
            "No row was waiting for its result, so none was canceled. To stop the schedules and "
            f"waiting pins of the import: pinflow imports cancel {canceled['id']} --scheduled"
        )
    if unsettled := canceled["unsettled_rows"]:
        typer.echo(
            f"{number_of(unsettled, 'row')} {choose_verb(unsettled, 'gets its', 'get their')} "
            f"result within moments. See it with: pinflow imports watch {canceled['id']}"
        )
    if with_schedules:
        count, left = len(canceled["canceled_schedules"]), canceled["left"]
        pins = len(canceled.get("withdrawn_pins", ()))  # an older Pinflow has none
        withdrawn = f", {number_of(pins, 'waiting pin')} withdrawn" if pins else ""
        were = choose_verb(count, "was", "were")
        typer.echo(f"{number_of(count, 'schedule')} {were} canceled{withdrawn}, {len(left)} left.")
        _print_left(left)


def _print_undo(undone: dict[str, Any], *, is_done: bool) -> None:
    job_id = undone["job_id"]
    is_removing = any(row["action"] == "removing" for row in undone["undone"])
    if is_done and is_removing:
        typer.echo(f"The undo of import {job_id} began before. {_count_undone(undone)}.")
    elif is_done:
        typer.echo(f"Import {job_id} was undone before. {_count_undone(undone)}.")
    elif undone["dry_run"]:
        typer.echo(f"{_describe_plan(undone)} Nothing was changed.")
    elif is_removing:
        typer.echo(f"The undo of import {job_id} has begun. {_count_undone(undone)}.")
    else:
        typer.echo(f"Import {job_id} is undone. {_count_undone(undone)}.")
    if not undone["dry_run"] and is_removing:
        typer.echo(
            "Pins are removed from Pinterest one after the other. To see how far it is, run the "
            f"command again: pinflow imports undo {job_id}"
        )
    _print_left(undone["left"])
    if any(row["reason"] == "changed" for row in undone["left"]):
        typer.echo(
            "No undo deletes what was changed. If you do not want it: pinflow pins delete PIN_ID… "
            "--from-pinterest. If it still waits for its time: pinflow schedules cancel "
            "SCHEDULE_ID…"
        )


def _describe_plan(plan: dict[str, Any]) -> str:
    return f"An undo of import {plan['job_id']} would do this: {_count_undone(plan)}."


def _count_undone(undone: dict[str, Any]) -> str:
    actions = [row["action"] for row in undone["undone"]]
    parts = [
        f"{number_of(actions.count('deleted'), 'pin')} deleted",
        f"{number_of(actions.count('canceled'), 'schedule')} canceled and deleted",
    ]
    if removed := actions.count("removed"):
        parts.append(f"{number_of(removed, 'pin')} removed from Pinterest and deleted")
    if removing := actions.count("removing"):
        parts.append(f"{number_of(removing, 'pin')} to be removed from Pinterest and then deleted")
    return ", ".join([*parts, f"{undone['left_rows']} left"])


def _print_left(left: Sequence[dict[str, Any]]) -> None:
    if left:
        rows = [
            [
                row["row_number"],
                row.get("pin_id"),
                row.get("schedule_id"),
                LEFT_REASONS.get(row["reason"], row["reason"]),
            ]
            for row in left
        ]
        print_table(["row", "pin_id", "schedule_id", "reason"], rows)
