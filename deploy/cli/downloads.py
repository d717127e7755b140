"""Writes files that Pinflow makes of an import's rows."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer

from deploy.cli.client import IMPORTS, PinflowClient
from deploy.cli.combined_job import AcceptedPortion
from deploy.cli.counts import choose_verb, number_of
from deploy.cli.exit_codes import fail
from deploy.cli.failed_rows import FailedRows, join_failed_rows
from deploy.cli.tables import printable
from shared.contract.events import RowStatus

STDOUT = Path("-")


def require_new_file(path: Path) -> None:
    """Ends the command if the file exists, or can't be made: it may have corrections."""
    if path == STDOUT:
        return
    if path.exists():
        _fail_for_existing(path)
    if not path.absolute().parent.is_dir():
        fail(f"The directory of {printable(str(path))} does not exist. Correct the path.")


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file, or to standard output for `-`."""
    if path == STDOUT:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        _fail_for_existing(path)
    except OSError as error:
        fail(f"Can't write {printable(str(path))}: {error.strerror}. Check the path.")


def download_failed_rows(client: PinflowClient, portions: Sequence[AcceptedPortion]) -> bytes:
    """Downloads the failed rows of one file's imports as one file. At least one row failed."""
    failed = [portion for portion in portions if portion.job["failed_rows"]]
    files = [
        FailedRows(client.download(f"{IMPORTS}/{portion.job_id}/failed.csv"), _find_lines(portion))
        for portion in failed
    ]
    if len(files) == 1 and failed[0].lines is None:
        return files[0].content
    return join_failed_rows(files)


def explain_failed_file(path: Path, count: int, command: str) -> None:
    """Says how to go on with a file of failed rows."""
    typer.echo(
        f"Wrote {number_of(count, 'failed row')} to {printable(str(path))}, with errors. Correct "
        f"{choose_verb(count, 'it', 'them')} there, save the file as CSV, and import it: "
        f"{printable(command)}",
        err=True,
    )


def _find_lines(portion: AcceptedPortion) -> list[int | None]:
    """Returns the line of each failed row in the whole file."""
    return [
        portion.lines[result["row_number"] - 1] if portion.lines else None
        for result in portion.job["results"]
        if result["status"] == RowStatus.FAILED
    ]


def _fail_for_existing(path: Path) -> NoReturn:
    fail(
        f"{printable(str(path))} exists and may have your corrections, so it is not overwritten. "
        "Choose another name, or remove it."
    )
