"""What commands print: tables for people, JSON for programs."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDE = 200
MOST_FAILURES = 20
COUNTERS = ("created", "existing", "failed")


def print_json(document: object) -> None:
    typer.echo(orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2).decode())


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, *, as_json: bool = False) -> None:
    """One line a row; `columns` chooses and orders."""
    chosen = [{name: row[name] for name in columns or row} for row in rows]
    if as_json:
        print_json(chosen)
    elif not chosen:
        typer.echo("None.")
    else:
        console().print(_table(list(chosen[0]), [list(row.values()) for row in chosen]))


def print_jobs(jobs: Sequence[Mapping[str, Any]]) -> None:
    if not jobs:
        typer.echo("No imports yet.")
        return
    names = ("id", "status", "total_rows", "created_rows", "existing_rows", "failed_rows", "source_filename", "created_at")
    print_rows([{name.removesuffix("_rows"): job[name] for name in names} for job in jobs])


def print_job(job: Mapping[str, Any], *, every_failure: bool = False) -> None:
    """A job's counters, its warnings, and what failed."""
    out = console()
    counters = ", ".join(f"{job[f'{name}_rows']} {name}" for name in COUNTERS)
    out.print(f"Import {job['id']}: {job['status']}. {job['processed_rows']} of {job['total_rows']} rows: {counters}.", highlight=False)
    for warning in job.get("warnings") or ():
        out.print(f"Warning: {warning['message']}", markup=False)
    if job["error_message"]:
        out.print(f"Why: {job['error_message']}", markup=False)
    differing = [result["row_number"] for result in job["results"] if result.get("payload_matches") is False]
    if differing:
        shown = ", ".join(map(str, differing[:MOST_FAILURES])) + (" …" if len(differing) > MOST_FAILURES else "")
        which = f"{len(differing)} existing row(s) differ from what was first accepted under their key (row {shown})"
        out.print(f"Warning: {which}. What is published was not changed.", markup=False)
    failures = [result for result in job["results"] if result["status"] == "failed"]
    if failures:
        _print_failures(out, failures, len(failures) if every_failure else MOST_FAILURES)


def _print_failures(out: Console, failures: Sequence[Mapping[str, Any]], most: int) -> None:
    rows = [[result["row_number"], result["idempotency_key"], result["error_code"], _faults(result)] for result in failures[:most]]
    out.print(_table(["row", "idempotency_key", "error_code", "errors"], rows))
    if len(failures) > most:
        out.print(f"… and {len(failures) - most} more; all of them with: pinflow imports show ID --all", markup=False)
    out.print("Nothing was published for these rows, and their keys are free: correct them and import them again.", markup=False)


def _faults(result: Mapping[str, Any]) -> str:
    told = [": ".join(filter(None, (fault["field"], fault["message"]))) for fault in result["errors"]]
    return "; ".join(told) or str(result["error_message"])


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Without borders, and no cell broken but the last: what stands in it can be copied."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, no_wrap=name != header[-1])
    for row in rows:
        table.add_row(*(escape(_text(value)) for value in row))
    return table


def console() -> Console:
    """As wide as the terminal; a file or a pipe gets whole lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
