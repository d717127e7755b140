"""Commands that import or check a file, and list and show imports."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.client import IMPORTS, PinflowClient
from deploy.cli.combined_check import combine_checks
from deploy.cli.combined_job import AcceptedPortion, Job, combine
from deploy.cli.counts import number_of
from deploy.cli.delivered_pins import name_pins
from deploy.cli.downloads import (
    STDOUT,
    download_failed_rows,
    explain_failed_file,
    require_new_file,
    write_file,
)
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.import_options import (
    Account,
    Encoding,
    Existing,
    FileFormat,
    FileName,
    PastChoice,
    Strict,
    TimeZone,
    format_command,
    read_import_file,
    split,
)
from deploy.cli.job_tables import (
    describe_times,
    has_unpublished_rows,
    print_check,
    print_job,
    print_timeline,
)
from deploy.cli.options import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    BaseUrl,
    CreatedSince,
    CreatedUntil,
    JobId,
    Limit,
    MaxRetrySeconds,
)
from deploy.cli.past_question import decide_past_rows, leave_out_past_warning
from deploy.cli.past_rows import find_past_rows
from deploy.cli.portion_sender import ImportOptions, PortionSender
from deploy.cli.progress import build_progress
from deploy.cli.resources import show_list
from deploy.cli.source_file import Format, SourceFile
from deploy.cli.submission import Submission
from deploy.cli.tables import print_json
from deploy.cli.waiting_pins import report_waiting
from shared.contract.events import JobStatus, OnExisting, SourceType

commands = typer.Typer()
imports = typer.Typer(
    no_args_is_help=True, help="List, show, follow, mend, cancel and undo the workspace's imports."
)


@commands.command("import")
def import_file(
    file: FileName,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    file_format: FileFormat = None,
    timezone: TimeZone = None,
    account: Account = None,
    past: Annotated[
        PastChoice | None,
        typer.Option(
            help="Publish rows whose run_at has passed at once, or let them fail. Default: ask on "
            "a terminal, otherwise publish."
        ),
    ] = None,
    on_existing: Existing = OnExisting.REPORT,
    encoding: Encoding = None,
    failed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the rows that fail to this new CSV file, with their errors, to correct "
            "them and import them again.",
        ),
    ] = None,
    max_retry_seconds: MaxRetrySeconds = 60,
    *,
    strict: Strict = False,
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

    To see beforehand what would become of the rows: pinflow check FILE

    You can repeat the command after an error: no row is published twice.

    Exit codes:
    0: all rows were created or existed already; with --no-wait, all rows were accepted
    1: some or all rows failed, or exist already but will not be published (deleted, canceled, \
failed)
    2: the file, the request or the command line is wrong, or you answered no; nothing more was \
imported
    3: a server did not answer, or you stopped the command; try again
    """
    if failed is not None:
        _require_failed_file(failed, no_wait=no_wait)
    read = read_import_file(
        file,
        file_format=file_format,
        timezone=timezone,
        account=account,
        encoding=encoding,
        on_existing=on_existing,
        strict=strict,
    )
    warned_rows = (
        None if past or yes else find_past_rows(read.source.run_at, read.zone, datetime.now(UTC))
    )
    options = read.build_options(past_run_at=past or decide_past_rows(read, warned_rows))
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        submission = Submission(PortionSender(client, read.file, read.source, options))
        with build_progress("rows") as progress:
            submission.send(progress)
            if not no_wait:
                submission.wait(progress)
        job = combine(submission.accepted, read.source.warnings, read.source.keyed_contents)
        if not as_json and (times := describe_times(job)):
            typer.echo(f"Accepted {number_of(job['total_rows'], 'row')}: {times}.")
        if no_wait:
            _report_accepted(submission.accepted, job, as_json=as_json)
            return
        shown = job if warned_rows is None or as_json else leave_out_past_warning(job)
        code = report(shown, as_json=as_json, names_failed_rows=failed is None)
        if not as_json:
            report_waiting(client, job, [portion.job_id for portion in submission.accepted])
        if failed is not None:
            _write_failed_rows(client, submission.accepted, failed, options)
    raise typer.Exit(code)


@commands.command("check")
def check_file(
    file: FileName,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    file_format: FileFormat = None,
    timezone: TimeZone = None,
    account: Account = None,
    past: Annotated[
        PastChoice, typer.Option(help="What rows do whose run_at has passed.")
    ] = PastChoice.PUBLISH,
    on_existing: Existing = OnExisting.REPORT,
    encoding: Encoding = None,
    max_retry_seconds: MaxRetrySeconds = 60,
    *,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Show what pinflow import would do with a file. Nothing is imported.

    The check finds every fault of every row, keys that are taken, rows that
    repeat a key of the file, and rows that would be published at once. Give it
    the options that you will give to pinflow import.

    Exit codes:
    0: all rows would be created, or exist already
    1: some or all rows would fail, or exist already but would not be published (deleted, \
canceled, failed)
    2: the file, the request or the command line is wrong
    3: a server did not answer, or you stopped the command; try again
    """
    read = read_import_file(
        file,
        file_format=file_format,
        timezone=timezone,
        account=account,
        encoding=encoding,
        on_existing=on_existing,
        strict=strict,
    )
    past_run_at = None if past is PastChoice.PUBLISH else past.value
    options = read.build_options(past_run_at=past_run_at, dry_run="true")
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        sender = PortionSender(client, read.file, read.source, options)
        _send_check(sender)
    checked = combine_checks(
        sender.sent,
        read.file.name if read.file.format is Format.CSV else None,
        read.source.warnings,
        read.source.keyed_contents,
        on_existing,
    )
    print_json(checked) if as_json else print_check(checked)
    is_good = not checked["failed_rows"] and not has_unpublished_rows(checked)
    if is_good and not as_json:
        command = format_command("import", file, options.parameters)
        typer.echo(f"Nothing was imported. To import the file: {command}")
    raise typer.Exit(ExitCode.DONE if is_good else ExitCode.ROWS_FAILED)


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
    """List the workspace's imports, newest first. Times are in UTC.

    The column undone counts the pins and schedules that an undo has deleted, and
    the pins that are still to be removed from Pinterest. pinflow imports show ID
    also says how many it left.
    """
    filters = {
        "status": status,
        "source_type": source_type,
        "since": since,
        "until": until,
        "include_undo": "true",
    }
    columns = {
        "id": "id",
        "status": "status",
        "total": "total_rows",
        "created": "created_rows",
        "existing": "existing_rows",
        "failed": "failed_rows",
        "undone": "undo.undone_rows",
        "created_at": "created_at",
        "source_filename": "source_filename",
    }
    show_list(
        PinflowClient(base_url, api_key, max_retry_seconds),
        IMPORTS,
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
    row: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show the timeline of this row.")
    ] = None,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    every_row: Annotated[
        bool, typer.Option("--all", help="Show the result of every row, not only failed ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show an import's counters, its undo, its warnings and the rows that failed.

    With --row, show what happened to one row and when, and why it has no result
    yet. Times are in UTC.
    """
    if row is not None and every_row:
        fail("--row shows one row, and --all shows all. Leave one of them out.")
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        if row is not None:
            timeline = client.read(f"{IMPORTS}/{job_id}/rows/{row}")
            print_json(timeline) if as_json else print_timeline(timeline)
            return
        job = client.job(job_id, with_undo=True)
        if as_json:
            print_json(job)
            return
        print_job(job, every_row=every_row)
        name_pins(client, job)


def report(
    job: dict[str, Any], *, as_json: bool = False, names_failed_rows: bool = True
) -> ExitCode:
    """Prints an ended job. Returns the command's exit code.

    `names_failed_rows`: also says how to get the failed rows as a file.
    """
    print_json(job) if as_json else print_job(job, names_failed_rows=names_failed_rows)
    is_done = job["status"] == JobStatus.COMPLETED and not has_unpublished_rows(job)
    return ExitCode.DONE if is_done else ExitCode.ROWS_FAILED


def import_csv(client: PinflowClient, name: str, data: bytes) -> Job:
    """Submits a CSV file, shows the progress and returns the job with its results."""
    file = SourceFile(name, data, Format.CSV)
    source = split(file, None, has_account=False)
    submission = Submission(PortionSender(client, file, source, ImportOptions({}, None)))
    with build_progress("rows") as progress:
        submission.send(progress)
        submission.wait(progress)
    return combine(submission.accepted)


def _require_failed_file(path: Path, *, no_wait: bool) -> None:
    if no_wait:
        fail(
            "--failed needs the results, and --no-wait does not wait for them. Leave one of them "
            "out. To get the failed rows later: pinflow imports results ID --failed FILE"
        )
    if path == STDOUT:
        fail("--failed needs the name of a file: standard output has the report.")
    require_new_file(path)


def _write_failed_rows(
    client: PinflowClient, accepted: list[AcceptedPortion], path: Path, options: ImportOptions
) -> None:
    """Writes the failed rows. If that is not possible, says so: the import is done nevertheless."""
    count = sum(portion.job["failed_rows"] for portion in accepted)
    if not count:
        typer.echo(f"No row failed, so {path} was not written.", err=True)
        return
    try:
        write_file(path, download_failed_rows(client, accepted))
    except typer.Exit:
        typer.echo(f"{path} was not written. The import has ended nevertheless.", err=True)
        return
    explain_failed_file(path, count, format_command("import", str(path), options.parameters))


def _send_check(sender: PortionSender) -> None:
    with build_progress("rows") as progress:
        task = progress.add_task("checking", total=sender.total_rows or None)
        try:
            while not sender.is_done:
                sender.send_next()
                progress.update(task, completed=sender.next_row)
        except KeyboardInterrupt:
            typer.echo("\nStopped. Nothing was imported.", err=True)
            raise typer.Exit(ExitCode.UNAVAILABLE) from None


def _report_accepted(accepted: list[AcceptedPortion], job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    for portion in accepted:
        rows = f" with rows {portion.first_row} to {portion.last_row}" if len(accepted) > 1 else ""
        typer.echo(
            f"Import {portion.job_id}{rows} was accepted. See its progress: pinflow imports watch "
            f"{portion.job_id}"
        )
