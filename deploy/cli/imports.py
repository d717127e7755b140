"""Commands that submit a file, show its progress, and show the results of its rows."""

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.cli.client import Job, PinflowClient
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.tables import print_job, print_jobs, print_json
from shared.contract.events import JobStatus

POLL_SECONDS = 0.2
STDIN = "-"

commands = typer.Typer()
imports = typer.Typer(no_args_is_help=True, help="List and show the workspace's imports.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
BaseUrl = Annotated[
    str, typer.Option(envvar="PINFLOW_BASE_URL", help="The address of Pinflow's gateway.")
]
ApiKey = Annotated[
    str,
    typer.Option(
        envvar="PINFLOW_API_KEY", help="An API key of your workspace.", show_default=False
    ),
]
MaxRetrySeconds = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0,
        metavar="SECONDS",
        help="Keep trying for this long while Pinflow is busy (429), is unavailable (503) or does "
        "not answer.",
    ),
]
JobId = Annotated[
    str, typer.Argument(help="The import's id, as printed by pinflow import and imports list.")
]
DEFAULT_URL = "http://127.0.0.1:8080"


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"


@commands.command("import")
def import_file(
    file: Annotated[
        str, typer.Argument(help="A .json or .csv file with the rows, or - for standard input.")
    ],
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    file_format: Annotated[
        Format | None,
        typer.Option("--format", help="The file's format. Default: the extension of its name."),
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
    as_json: AsJson = False,
) -> None:
    """Import a file and wait until each of its rows has a result.

    You can repeat the command after an error: no row is published twice.

    Exit codes:
    0: all rows were created or existed already; with --no-wait, the import was accepted
    1: some or all rows failed
    2: the file, the request or the command line is wrong; nothing more was imported
    3: a server did not answer; try again
    """
    body = _read(file)
    chosen_format = file_format or _detect_format(file)
    client = PinflowClient(base_url, api_key, max_retry_seconds)
    name = "stdin.csv" if file == STDIN else Path(file).name
    job = (
        client.submit_csv(body, name, strict=strict)
        if chosen_format is Format.CSV
        else client.submit_json(body, strict=strict)
    )
    if no_wait:
        print_json(job) if as_json else typer.echo(
            f"Import {job['id']} was accepted. See its progress: pinflow imports show {job['id']}"
        )
        return
    raise typer.Exit(report(watch(client, job), as_json=as_json))


@imports.command("list")
def list_imports(
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="Show at most this many.")] = 20,
    status: Annotated[
        JobStatus | None, typer.Option(help="Show only imports with this status.")
    ] = None,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """List the workspace's imports, newest first."""
    jobs = PinflowClient(base_url, api_key, max_retry_seconds).jobs(limit, status)
    print_json(jobs) if as_json else print_jobs(jobs)


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
    job = PinflowClient(base_url, api_key, max_retry_seconds).job(job_id)
    print_json(job) if as_json else print_job(job, every_row=every_row)


def watch(client: PinflowClient, job: Job) -> Job:
    """Shows the progress of an accepted job until it ends. Returns the job with its results."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(
            f"import {job['id']}", total=job["total_rows"], completed=job["processed_rows"]
        )
        try:
            while job["completed_at"] is None:
                time.sleep(POLL_SECONDS)
                job = client.job(job["id"])
                progress.update(task, completed=job["processed_rows"])
        except KeyboardInterrupt:
            fail(
                "\nThe command stopped, but the import continues. See its progress: pinflow "
                f"imports show {job['id']}",
                ExitCode.UNAVAILABLE,
            )
    return job


def report(job: dict[str, Any], *, as_json: bool = False) -> ExitCode:
    """Prints an ended job. Returns the command's exit code."""
    print_json(job) if as_json else print_job(job)
    return ExitCode.DONE if job["status"] == JobStatus.COMPLETED else ExitCode.ROWS_FAILED


def _detect_format(file: str) -> Format:
    suffix = Path(file).suffix.lower().removeprefix(".")
    if suffix not in set(Format):
        fail(
            f"The name of {file} ends neither in .json nor in .csv. Add --format json or --format "
            "csv. (Save a spreadsheet as CSV first.)"
        )
    return Format(suffix)


def _read(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        fail(f"Can't read {file}: {error.strerror}. Check the path and its permissions.")
