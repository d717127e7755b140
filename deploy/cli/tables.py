"""Prints the results of commands: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.cli.listing import Listing

PIPE_WIDTH = 200
"""The characters per line of a table that goes into a file or a pipe."""
MAX_CELL_CHARACTERS = 40
MIN_LAST_COLUMN_WIDTH = 30
GAP = 2


def print_json(document: object) -> None:
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z
    text = orjson.dumps(document, default=str, option=options).decode()
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


def print_listing(
    listing: Listing, columns: Mapping[str, str], *, empty_message: str, as_json: bool
) -> None:
    """Prints the items of a list. `columns` has the path of each column's value, by its header."""
    if as_json:
        print_json(listing.items)
    elif not listing.items:
        typer.echo(empty_message)
    else:
        rows = [[read_path(item, path) for path in columns.values()] for item in listing.items]
        print_table(list(columns), rows)
    print_more(listing)


def print_more(listing: Listing) -> None:
    """Says on standard error that the list is longer."""
    if listing.has_more:
        total = "" if listing.total is None else f" of {listing.total}"
        typer.echo(f"Shown: {len(listing.items)}{total}. Show more with --limit.", err=True)


def read_path(document: Mapping[str, Any], path: str) -> Any:
    """Reads a field, or a field of an inner object: `payload.title`. Times become readable."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return format_time(value) if path.endswith("_at") else value


def format_time(value: object) -> object:
    """Formats a time, or the text of one, in UTC to the second. Returns anything else unchanged."""
    try:
        time = datetime.fromisoformat(str(value)).astimezone(UTC)
    except ValueError:
        return value
    return f"{time:%Y-%m-%d %H:%M:%S}Z"


def print_fields(document: Mapping[str, Any]) -> None:
    """Prints each field of a document that is not null on a line of its own."""
    fields = _flatten(document)
    width = max(map(len, fields)) + GAP
    for name in fields:
        value = read_path(document, name)
        if value is not None:
            console().print(f"{name:<{width}}{_format(value)}", markup=False, soft_wrap=True)


def _flatten(document: Mapping[str, Any]) -> list[str]:
    names = []
    for name, value in document.items():
        inner = _flatten(value) if isinstance(value, Mapping) else []
        names += [f"{name}.{inner_name}" for inner_name in inner] or [name]
    return names


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], *, is_error: bool = False
) -> None:
    """Prints a table without borders. `is_error`: to standard error.

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
    console(width + MIN_LAST_COLUMN_WIDTH, is_error=is_error).print(table)


def console(min_width: int = 0, *, is_error: bool = False) -> Console:
    """Returns a console as wide as the terminal, or of PIPE_WIDTH for a file or a pipe."""
    stream = sys.stderr if is_error else sys.stdout
    width = Console(stderr=is_error).width if stream.isatty() else PIPE_WIDTH
    return Console(highlight=False, width=max(width, min_width), stderr=is_error)


def _format_cell(value: Any) -> str:
    text = _format(value)
    # No part of a list of scopes or ids tells the rest
    if isinstance(value, list) or len(text) <= MAX_CELL_CHARACTERS:
        return text
    return f"{text[: MAX_CELL_CHARACTERS - 1]}…"


def _format(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return str(format_time(value))
    if isinstance(value, list):
        return printable(", ".join(map(str, value)))
    return printable(str(value))


def printable(text: str) -> str:
    """Escapes the characters that would control a terminal: keys and names can contain any."""
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in text
    )
