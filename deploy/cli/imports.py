"""Commands that submit a file, show its progress, and show the results of its rows."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.combined_job import AcceptedPortion, Job, combine
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.job_tables import describe_times, format_rows, has_unpublished_rows, print_job
from deploy.cli.options import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    BaseUrl,
    CreatedSince,
    CreatedUntil,
    Limit,
    MaxRetrySeconds,
)
from deploy.cli.past_rows import find_past_rows
from deploy.cli.portions import RowSource, split_csv, split_json
from deploy.cli.progress import build_progress
from deploy.cli.questions import can_ask, choose
from deploy.cli.resources import show_list
from deploy.cli.source_file import Format, SourceFile, read_source_file
from deploy.cli.submission import ImportOptions, Submission
from deploy.cli.tables import format_time, print_json, printable
from shared.contract.errors import ApiError
from shared.contract.events import JobStatus, SourceType
from shared.contract.time_zones import load_zone

commands = typer.Typer()
imports = typer.Typer(no_args_is_help=True, help="List and show the workspace's imports.")

JobId = Annotated[
    str, typer.Argument(help="The import's id, as printed by pinflow import and imports list.")
]


class PastChoice(StrEnum):
    """Treatments of rows whose `run_at` has passed."""

    PUBLISH = "publish"
    FAIL = "fail"


@commands.command("import")
def import_file(
    file: Annotated[
        str, typer.Argument(help="A .json or .csv file with the rows, or - for standard input.")
    ],
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    file_format: Annotated[
        Format | None,
        typer.Option("--format", help="The file's format. Default: by the extension of its name."),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="The time zone of times without an offset, for example Europe/Berlin.",
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The account of rows that name none, by its name or its id."
        ),
    ] = None,
    past: Annotated[
        PastChoice | None,
        typer.Option(
            help="Publish rows whose run_at has passed at once, or let them fail. Default: ask on "
            "a terminal, otherwise publish."
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The encoding of a CSV file, for example windows-1251. Default: found out.",
        ),
    ] = None,
    max_retry_seconds: MaxRetrySeconds = 60,
    *,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Fail rows with unknown fields. Default: ignore these fields."
        ),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Return when the import is accepted, before rows settle."),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Publish rows whose run_at has passed without asking."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import a file and wait until each of its rows has a result.

    A file of more than 500 rows, or of more than 5 MiB, is sent as several
    imports, one after the other. Row numbers and lines are those of the file.

    You can repeat the command after an error: no row is published twice.

    Exit codes:
    0: all rows were created or existed already; with --no-wait, all rows were accepted
    1: some or all rows failed, or exist already but will not be published (deleted, canceled, \
failed)
    2: the file, the request or the command line is wrong, or you answered no; nothing more was \
imported
    3: a server did not answer, or you stopped the command; try again
    """
    zone = _load_zone(timezone)
    source_file = read_source_file(file, file_format)
    if encoding and source_file.format is Format.JSON:
        fail("--encoding is for CSV files: JSON is always UTF-8. Leave it out.")
    source = _split(source_file, encoding, has_account=account is not None)
    past = past or _decide_past_rows(source, zone, yes=yes)
    parameters = {
        "strict": "true" if strict else None,
        "timezone": timezone,
        "account": account,
        "past_run_at": past,
    }
    options = ImportOptions({name: value for name, value in parameters.items() if value}, encoding)
    with (
        PinflowClient(base_url, api_key, max_retry_seconds) as client,
        build_progress("rows") as progress,
    ):
        submission = Submission(client, source_file, source, options)
        submission.send(progress)
        if not no_wait:
            submission.wait(progress)
    job = combine(submission.accepted, source.warnings, source.keyed_contents)
    if not as_json and (times := describe_times(job)):
        typer.echo(f"Accepted {job['total_rows']} row(s): {times}.")
    if no_wait:
        _report_accepted(submission.accepted, job, as_json=as_json)
    else:
        raise typer.Exit(report(job, as_json=as_json))


@imports.command("list")
def list_imports(
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    limit: Limit = 20,
    status: Annotated[
        JobStatus | None, typer.Option(help="Show only imports with this status.")
    ] = None,
    source_type: Annotated[
        SourceType | None,
        typer.Option("--source-type", help="Show only imports of this format."),
    ] = None,
    since: CreatedSince = None,
    until: CreatedUntil = None,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """List the workspace's imports, newest first. Times are in UTC."""
    filters = {"status": status, "source_type": source_type, "since": since, "until": until}
    columns = {
        "id": "id",
        "status": "status",
        "total": "total_rows",
        "created": "created_rows",
        "existing": "existing_rows",
        "failed": "failed_rows",
        "created_at": "created_at",
        "source_filename": "source_filename",
    }
    show_list(
        PinflowClient(base_url, api_key, max_retry_seconds),
        "/v1/pins/imports",
        filters,
        limit,
        columns,
        empty_message="There is no import, or your filters exclude it. Submit one with: pinflow "
        "import FILE",
        as_json=as_json,
    )


@imports.command("show")
def show_import(
    job_id: JobId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    every_row: Annotated[
        bool, typer.Option("--all", help="Show the result of every row, not only failed ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show an import's counters, its warnings and the rows that failed."""
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        job = client.job(job_id)
    print_json(job) if as_json else print_job(job, every_row=every_row)


def report(job: dict[str, Any], *, as_json: bool = False) -> ExitCode:
    """Prints an ended job. Returns the command's exit code."""
    print_json(job) if as_json else print_job(job)
    is_done = job["status"] == JobStatus.COMPLETED and not has_unpublished_rows(job)
    return ExitCode.DONE if is_done else ExitCode.ROWS_FAILED


def import_csv(client: PinflowClient, name: str, data: bytes) -> Job:
    """Submits a CSV file, shows the progress and returns the job with its results."""
    file = SourceFile(name, data, Format.CSV)
    submission = Submission(
        client, file, _split(file, None, has_account=False), ImportOptions({}, None)
    )
    with build_progress("rows") as progress:
        submission.send(progress)
        submission.wait(progress)
    return combine(submission.accepted)


def _load_zone(name: str | None) -> ZoneInfo | None:
    try:
        return load_zone(name, parameter="--timezone") if name is not None else None
    except ApiError as error:
        fail(error.message)


def _split(file: SourceFile, encoding: str | None, *, has_account: bool) -> RowSource:
    try:
        if file.format is Format.JSON:
            return split_json(file.data)
        return split_csv(file.data, encoding, has_account=has_account)
    except ApiError as error:
        fail(f"{printable(error.message)} ({error.code})")


def _decide_past_rows(source: RowSource, zone: ZoneInfo | None, *, yes: bool) -> PastChoice | None:
    """Asks before rows are published whose time has passed. None: Pinflow's default."""
    past = find_past_rows(source.run_at, zone, datetime.now(UTC))
    if past is None or yes:
        return None
    text = (
        f"{len(past.numbers)} of {len(source.rows)} row(s) have a run_at that has passed: "
        f"{format_rows(past.numbers)}. The oldest is {format_time(past.oldest)}. "
    )
    if not can_ask():
        typer.echo(
            f"Warning: {text}They are published at once, unless they exist already. With --past "
            "fail they fail instead.",
            err=True,
        )
        return None
    typer.echo(
        f"{text}Without a run_at in the future, a row is published at once, unless it exists "
        "already.\n  y  publish these rows now\n  n  import nothing\n  o  import only the others: "
        "these rows fail (as with --past fail)",
        err=True,
    )
    answer = choose("Publish them now?", ("y", "n", "o"), no="n")
    if answer == "n":
        fail("Nothing was imported.")
    return PastChoice.FAIL if answer == "o" else PastChoice.PUBLISH


def _report_accepted(accepted: list[AcceptedPortion], job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    for portion in accepted:
        rows = f" with rows {portion.first_row} to {portion.last_row}" if len(accepted) > 1 else ""
        typer.echo(
            f"Import {portion.job_id}{rows} was accepted. See its progress: pinflow imports show "
            f"{portion.job_id}"
        )
