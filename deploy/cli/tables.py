"""What commands print: tables for people, JSON for programs."""

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
MAX_FAILURES_SHOWN = 20
MAX_CELL_CHARACTERS = 40
MIN_LAST_COLUMN_WIDTH = 30
GAP = 2
COUNTERS = ("created", "existing", "failed")


def print_json(document: object) -> None:
    text = orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2).decode()
    # Only in its strings can a character stand that a terminal would act on; JSON lets it be
    # escaped there
    typer.echo(
        "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
    )


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """One line a row; `columns` chooses and orders."""
    chosen = [{name: row[name] for name in columns or row} for row in rows]
    if as_json:
        print_json(chosen)
    elif not chosen:
        typer.echo("None.")
    else:
        print_table(list(chosen[0]), [list(row.values()) for row in chosen])


def print_jobs(jobs: Sequence[Mapping[str, Any]]) -> None:
    if not jobs:
        typer.echo("No imports yet.")
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
    """A job's counters, its warnings, and what failed, or what became of every row."""
    out = console()
    counters = ", ".join(f"{job[f'{name}_rows']} {name}" for name in COUNTERS)
    out.print(
        f"Import {job['id']}: {job['status']}. {job['processed_rows']} of {job['total_rows']} "
        f"rows: {counters}.",
        highlight=False,
    )
    for warning in job.get("warnings") or ():
        out.print(f"Warning: {printable(warning['message'])}", markup=False)
    if job["error_message"]:
        out.print(f"Why: {printable(job['error_message'])}", markup=False)
    differing = [
        result["row_number"] for result in job["results"] if result.get("payload_matches") is False
    ]
    if differing:
        shown = ", ".join(map(str, differing[:MAX_FAILURES_SHOWN])) + (
            " …" if len(differing) > MAX_FAILURES_SHOWN else ""
        )
        which = (
            f"{len(differing)} existing row(s) differ from what was first accepted under their key "
            f"(row {shown})"
        )
        out.print(f"Warning: {which}. What is published was not changed.", markup=False)
    if every_row:
        _print_rows(job["results"])
    elif failures := [result for result in job["results"] if result["status"] == "failed"]:
        _print_failures(job["id"], failures)


def _print_rows(results: Sequence[Mapping[str, Any]]) -> None:
    header = ["row", "status", "idempotency_key", "pin_id", "schedule_id", "errors"]
    print_table(
        header,
        [
            [row["row_number"], *(row[name] for name in header[1:5]), _faults(row)]
            for row in results
        ],
    )


def _print_failures(job_id: str, failures: Sequence[Mapping[str, Any]]) -> None:
    out = console()
    rows = [
        [row["row_number"], row["idempotency_key"], row["error_code"], _faults(row)]
        for row in failures[:MAX_FAILURES_SHOWN]
    ]
    print_table(["row", "idempotency_key", "error_code", "errors"], rows)
    if len(failures) > MAX_FAILURES_SHOWN:
        out.print(
            f"… and {len(failures) - MAX_FAILURES_SHOWN} more; all rows with: pinflow imports show "
            f"{job_id} --all",
            markup=False,
        )
    out.print("Row 1 is the first below the header; blank lines don't count.", markup=False)
    out.print(
        "These rows published nothing and took no key: correct them and import them again.",
        markup=False,
    )


def _faults(result: Mapping[str, Any]) -> str:
    told = [
        ": ".join(filter(None, (fault["field"], fault["message"]))) for fault in result["errors"]
    ]
    return "; ".join(told) or result["error_message"] or ""


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Without borders, and no cell broken but the last: what stands in it can be copied. A line
    that is too wide for the terminal goes on in the next.
    """
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, no_wrap=name != header[-1])
    texts = [[_cell(value) for value in row[:-1]] + [printable(_text(row[-1]))] for row in rows]
    for row in texts:
        table.add_row(*map(escape, row))
    columns = list(zip(header, *texts, strict=True))
    needed = (
        sum(max(map(cell_len, column)) + GAP for column in columns[:-1]) + MIN_LAST_COLUMN_WIDTH
    )
    console(needed).print(table)


def console(min_width: int = 0) -> Console:
    """As wide as the terminal; a file or a pipe gets whole lines."""
    width = Console().width if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, width=max(width, min_width))


def _cell(value: Any) -> str:
    text = printable(_text(value))
    return text if len(text) <= MAX_CELL_CHARACTERS else f"{text[: MAX_CELL_CHARACTERS - 1]}…"


def printable(text: str) -> str:
    """Keys and names come from anywhere: what would move a terminal's cursor or colour it is shown,
    not done.
    """
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
