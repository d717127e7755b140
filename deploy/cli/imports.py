"""Imports from a terminal: submit a file, watch it, see what became of its rows."""

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

imports = typer.Typer(no_args_is_help=True, help="Imports that were submitted before.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BaseUrl = Annotated[str, typer.Option(envvar="PINFLOW_BASE_URL", help="The gateway's address.")]
ApiKey = Annotated[
    str, typer.Option(envvar="PINFLOW_API_KEY", help="A key of the workspace.", show_default=False)
]
Patience = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0,
        help="Seconds to wait while Pinflow is busy (429), unavailable (503) or can't be reached.",
    ),
]
DEFAULT_URL = "http://127.0.0.1:8080"


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"


def import_file(
    file: Annotated[str, typer.Argument(help="A .json or .csv file; - reads standard input.")],
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    file_format: Annotated[
        Format | None, typer.Option("--format", help="By default told from the file's name.")
    ] = None,
    patience: Patience = 60,
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail rows that have unknown fields.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return when the import is accepted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import a file and wait until it has finished.

    Exit code 0: all rows created or existing; 1: rows failed; 2: refused; 3: try again.
    """
    body = _read(file)
    kind = file_format or _format_of(file)
    client = PinflowClient(base_url, api_key, patience)
    name = "stdin.csv" if file == STDIN else Path(file).name
    job = (
        client.submit_csv(body, name, strict=strict)
        if kind is Format.CSV
        else client.submit_json(body, strict=strict)
    )
    if no_wait:
        print_json(job) if as_json else typer.echo(
            f"Accepted as {job['id']}. Follow it with: pinflow imports show {job['id']}"
        )
        return
    raise typer.Exit(report(watch(client, job), as_json=as_json))


@imports.command("list")
def list_imports(
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    status: JobStatus | None = None,
    patience: Patience = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """The workspace's imports, newest first."""
    jobs = PinflowClient(base_url, api_key, patience).jobs(limit, status)
    print_json(jobs) if as_json else print_jobs(jobs)


@imports.command("show")
def show_import(
    job_id: str,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    patience: Patience = 10,
    *,
    every_row: Annotated[
        bool, typer.Option("--all", help="Show every row with what became of it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One import: its counters and what failed, or what became of every row."""
    job = PinflowClient(base_url, api_key, patience).job(job_id)
    print_json(job) if as_json else print_job(job, every_row=every_row)


def watch(client: PinflowClient, job: Job) -> Job:
    """Show the progress of an accepted job until it ends; return it with its results."""
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
                f"\nStopped watching; the import goes on. See: pinflow imports show {job['id']}",
                ExitCode.UNAVAILABLE,
            )
    return job


def report(job: dict[str, Any], *, as_json: bool = False) -> ExitCode:
    print_json(job) if as_json else print_job(job)
    return ExitCode.DONE if job["status"] == JobStatus.COMPLETED else ExitCode.ROWS_FAILED


def _format_of(file: str) -> Format:
    suffix = Path(file).suffix.lower().removeprefix(".")
    if suffix not in set(Format):
        fail(
            f"Can't tell from its name whether {file} is JSON or CSV: use --format json or "
            "--format csv. (Save a spreadsheet as CSV.)"
        )
    return Format(suffix)


def _read(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        fail(f"Can't read {file}: {error.strerror}.")
