"""Prints the results of commands: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPE_WIDTH = 200
"""The characters per line of a table that goes into a file or a pipe."""
MAX_FAILURES_SHOWN = 20
MAX_CELL_CHARACTERS = 40
MIN_LAST_COLUMN_WIDTH = 30
GAP = 2
COUNTERS = ("created", "existing", "failed")


def print_json(document: object) -> None:
    text = orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2).decode()
    # Only strings can contain characters that control a terminal, and JSON allows them escaped
    typer.echo(
        "".join(
            character
            if character.isprintable() or character == "\n"
            else json.dumps(character)[1:-1]
            for character in text
        )
    )


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Prints one line per row. `columns` selects and orders the columns; default: all."""
    selected = [{name: row[name] for name in columns or row} for row in rows]
    if as_json:
        print_json(selected)
    elif not selected:
        typer.echo("None.")
    else:
        print_table(list(selected[0]), [list(row.values()) for row in selected])


def print_jobs(jobs: Sequence[Mapping[str, Any]]) -> None:
    if not jobs:
        typer.echo("There are no imports to show. Submit one with: pinflow import FILE")
        return
    names = (
        "id",
        "status",
        "total_rows",
        "created_rows",
        "existing_rows",
        "failed_rows",
        "source_filename",
        "created_at",
    )
    print_rows([{name.removesuffix("_rows"): job[name] for name in names} for job in jobs])


def print_job(job: Mapping[str, Any], *, every_row: bool = False) -> None:
    """Prints a job's counters, its warnings, and its failed rows or all rows."""
    out = console()
    counters = ", ".join(f"{job[f'{name}_rows']} {name}" for name in COUNTERS)
    out.print(
        f"Import {job['id']}: {job['status']}. {job['processed_rows']} of {job['total_rows']} "
        f"rows have a result: {counters}.",
        highlight=False,
    )
    for warning in job.get("warnings") or ():
        out.print(f"Warning: {printable(warning['message'])}", markup=False)
    if job["error_message"]:
        out.print(f"Error: {printable(job['error_message'])}", markup=False)
    differing = [
        result["row_number"] for result in job["results"] if result.get("payload_matches") is False
    ]
    if differing:
        numbers = ", ".join(map(str, differing[:MAX_FAILURES_SHOWN])) + (
            " …" if len(differing) > MAX_FAILURES_SHOWN else ""
        )
        out.print(
            f"Warning: {len(differing)} existing row(s) differ from what was first sent with the "
            f"same idempotency key: row {numbers}. The published pins were not changed. If such a "
            "row is meant as a new pin, give it a different key.",
            markup=False,
        )
    if every_row:
        _print_results(job["results"])
    elif failures := [result for result in job["results"] if result["status"] == "failed"]:
        _print_failures(job, failures)


def _print_results(results: Sequence[Mapping[str, Any]]) -> None:
    header = ["row", "status", "idempotency_key", "pin_id", "schedule_id", "errors"]
    print_table(
        header,
        [
            [row["row_number"], *(row[name] for name in header[1:5]), _join_errors(row)]
            for row in results
        ],
    )


def _print_failures(job: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> None:
    out = console()
    rows = [
        [row["row_number"], row["idempotency_key"], row["error_code"], _join_errors(row)]
        for row in failures[:MAX_FAILURES_SHOWN]
    ]
    print_table(["row", "idempotency_key", "error_code", "errors"], rows)
    if len(failures) > MAX_FAILURES_SHOWN:
        out.print(
            f"… and {len(failures) - MAX_FAILURES_SHOWN} more. See all rows: pinflow imports show "
            f"{job['id']} --all",
            markup=False,
        )
    if job["source_type"] == "csv":
        out.print(
            "Row 1 is the first row below the CSV header. Blank lines are not counted.",
            markup=False,
        )
    out.print(
        "The failed rows published nothing and used no idempotency key. Correct them and import "
        "them again.",
        markup=False,
    )


def _join_errors(result: Mapping[str, Any]) -> str:
    errors = [
        ": ".join(filter(None, (error["field"], error["message"]))) for error in result["errors"]
    ]
    return "; ".join(errors) or result["error_message"] or ""


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table without borders.

    Breaks only the cells of the last column, so that ids and names can be copied. A line that is
    too wide for the terminal continues on the next one.
    """
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, no_wrap=name != header[-1])
    texts = [[_format_cell(value) for value in row[:-1]] + [_format(row[-1])] for row in rows]
    for row in texts:
        table.add_row(*map(escape, row))
    columns = list(zip(header, *texts, strict=True))
    width = sum(max(map(cell_len, column)) + GAP for column in columns[:-1])
    console(width + MIN_LAST_COLUMN_WIDTH).print(table)


def console(min_width: int = 0) -> Console:
    """Returns a console as wide as the terminal, or of PIPE_WIDTH for a file or a pipe."""
    width = Console().width if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, width=max(width, min_width))


def _format_cell(value: Any) -> str:
    text = _format(value)
    return text if len(text) <= MAX_CELL_CHARACTERS else f"{text[: MAX_CELL_CHARACTERS - 1]}…"


def _format(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, list):
        return printable(", ".join(map(str, value)))
    return printable(str(value))


def printable(text: str) -> str:
    """Escapes the characters that would control a terminal: keys and names can contain any."""
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in text
    )
