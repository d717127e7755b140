"""Reads CSV files as people have them: several encodings, delimiters and spellings of columns.

The policy is in docs/reference/reading-imports.md. Validation of the values is left to the caller.
"""

import csv
import io
import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import compress, islice
from typing import NamedTuple

import msgspec

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROWS, Notice
from shared.spreadsheets.columns import (
    MAX_LISTED_COLUMNS,
    REQUIRED_COLUMNS,
    CsvColumn,
    build_warnings,
    read_columns,
)
from shared.spreadsheets.delimiters import find_beginning
from shared.spreadsheets.encoding import decode
from shared.spreadsheets.file_types import refuse_binary
from shared.spreadsheets.refusals import invalid_csv
from shared.spreadsheets.result_files import find_result_columns, is_unchanged, restore

MAX_CELL_CHARACTERS = 2**31 - 1
MAX_PARSED_EXCESS_ROWS = 10_000
"""Rows over the limit that are parsed to be counted. After them only lines are counted, which takes
a quarter of the time. The file is refused in any case.
"""
END_MARKS = "\0\x1a"
"""NUL and Ctrl-Z, which old programs write behind the last line."""
_BEFORE_END_MARKS = re.compile(f"[^{END_MARKS}]*")


class WrongCellCount(NamedTuple):
    """A CSV row that has more or fewer cells than the header."""

    message: str


_ValueReader = Callable[[list[str]], dict[str, str] | WrongCellCount]
"""Reads the values of a row's cells."""


class CsvRow(msgspec.Struct, frozen=True, gc=False):
    """A row below the header. A msgspec struct, because it is built in a third of the time."""

    line: int
    """Line of the file in which the row begins, from 1. Every line counts."""
    cells: list[str]
    """The cells as written."""
    values: dict[str, str] | WrongCellCount
    """Values by field name, without empty cells and ignored columns."""


class Header(NamedTuple):
    """The form of a file, in which some of its rows can be written again."""

    cells: list[str]
    delimiter: str
    encoding: str
    """Python's name of the encoding in which the file was read."""
    result_columns: frozenset[int] = frozenset()
    """The indices of the columns with results of an earlier import. If there are any, the cells
    are protected from running as formulas."""


class CsvTable(NamedTuple):
    """A file's header and rows, and the warnings about it."""

    header: Header
    rows: list[CsvRow]
    """The first rows, at most `max_rows`."""
    row_count: int
    """All rows of the file."""
    warnings: list[Notice]
    columns: list[CsvColumn]
    """The columns of the header, in its order."""


def read_csv(
    data: bytes,
    *,
    encoding: str | None = None,
    max_rows: int | None = MAX_ROWS,
    keep_unknown: bool = False,
    optional: Collection[str] = (),
) -> CsvTable:
    """Reads a CSV file. Raises ApiError if the file as a whole can't be read.

    `encoding` is the one that the client declared. `keep_unknown` keeps cells of unknown columns
    under their names, so that validation fails their rows. `optional` names columns that may be
    missing although their fields are required.
    """
    text, read_as, warnings = decode(data, encoding)
    # Searched in the bytes, because to search or copy decoded text takes 0.1 to 0.3 µs for each row
    has_nul = b"\0" in data
    if has_nul or b"\x1a" in data:
        text = _drop_end_marks(text)
    beginning = find_beginning(text)
    # The body's limit is enough. Python's default limit of a cell, 128 KiB, would refuse the file
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    source = io.StringIO(text, newline="")
    source.seek(beginning.position)
    records = _read_records(source, beginning.delimiter, beginning.lines_before)
    _, header = next(records, (0, []))
    if has_nul:
        refuse_binary(text, header)
    if not header:
        raise ApiError(
            ErrorCode.EMPTY_FILE, "The file is empty. Its first line must name the columns."
        )
    results = find_result_columns(header)
    names = [*map(restore, header)] if results else header
    columns = read_columns(names, optional, results)
    read_values = _build_reader(columns, optional, keep_unknown=keep_unknown)
    if results:
        read_values = _build_restoring_reader(read_values)
    rows = [CsvRow(line, cells, read_values(cells)) for line, cells in islice(records, max_rows)]
    return CsvTable(
        Header(header, beginning.delimiter, read_as, results),
        rows,
        len(rows) + _count_excess_rows(records, source),
        [
            *warnings,
            *build_warnings(columns, keeps_unknown=keep_unknown),
            *_warn_of_unnamed_columns(columns, rows),
            *_warn_of_results(header, results),
        ],
        columns,
    )


def _drop_end_marks(text: str) -> str:
    """Drops a last line that consists of end marks. Behind a cell they stay: its row fails."""
    content = text.rstrip(END_MARKS + string.whitespace)
    before = _BEFORE_END_MARKS.match(text, len(content))
    end = before.end() if before else len(text)
    is_own_line = not content or not {"\r", "\n"}.isdisjoint(text[len(content) : end])
    return text[:end] if is_own_line else text


def _read_records(
    lines: Iterable[str], delimiter: str, lines_before: int
) -> Iterator[tuple[int, list[str]]]:
    """Yields the records that are not blank, each with its first line.

    A line of delimiters only, which spreadsheets write for an empty row, is blank.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    first_line = lines_before + 1
    try:
        for cells in reader:
            # Nearly every row's first cell has a value. To join all cells takes 0.3 µs
            if cells and (cells[0].strip() or "".join(cells).strip()):
                yield first_line, cells
            first_line = lines_before + reader.line_num + 1
    except csv.Error as error:
        raise _explain(str(error), first_line) from None


def _explain(error: str, line: int) -> ApiError:
    if "unexpected end of data" in error:
        message = (
            f"The row that begins at line {line} has an unclosed quote. Close it or remove it."
        )
    elif "expected after" in error:
        message = (
            f"The row that begins at line {line} has text behind a closing quote. Write a quote "
            'inside a quoted cell twice: "".'
        )
    else:
        message = f"The row that begins at line {line} is not valid CSV: {error}. Correct it."
    return invalid_csv(message, line=line)


def _count_excess_rows(records: Iterator[object], lines: Iterable[str]) -> int:
    counted = sum(1 for _ in islice(records, MAX_PARSED_EXCESS_ROWS))
    return counted + (
        sum(not line.isspace() for line in lines) if counted == MAX_PARSED_EXCESS_ROWS else 0
    )


def _build_restoring_reader(read_values: _ValueReader) -> _ValueReader:
    def read_restored(cells: list[str]) -> dict[str, str] | WrongCellCount:
        return read_values([restore(cell) for cell in cells])

    return read_restored


def _build_reader(
    columns: Sequence[CsvColumn], optional: Collection[str], *, keep_unknown: bool
) -> _ValueReader:
    """Builds the function that reads the values of a row."""
    width = len(columns)
    fields = [column.field for column in columns]
    known = [field for field in fields if field]
    others = [
        (index, column.name or f"column {index + 1} has no name")
        for index, column in enumerate(columns)
        if keep_unknown and not column.field and not column.is_result
    ]
    required = {name for name in REQUIRED_COLUMNS if name not in optional}
    required_width = max(index for index, name in enumerate(fields, 1) if name in required)

    def read_values(cells: list[str]) -> dict[str, str] | WrongCellCount:
        count = len(cells)
        if count != width and (
            count < required_width or (count > width and "".join(cells[width:]).strip())
        ):
            return _wrong_cell_count(count, width)
        if len(known) == width:
            # A fifth cheaper than a comprehension, which runs its loop in Python
            return dict(compress(zip(known, cells), cells))  # noqa: B905
        values = {name: cell for name, cell in zip(fields, cells, strict=False) if cell and name}
        for index, name in others:
            if index < count and cells[index].strip():
                values[name] = cells[index]
        return values

    return read_values


def _wrong_cell_count(count: int, width: int) -> WrongCellCount:
    advice = (
        "Quote cells that contain the delimiter."
        if count > width
        else "Add the missing cells; those of optional columns may be empty."
    )
    return WrongCellCount(f"The row has {count} cells; the header has {width}. {advice}")


def _warn_of_results(header: Sequence[str], results: Collection[int]) -> list[Notice]:
    """Warns if a file with results may be one that merely has columns of the same names."""
    if not results or is_unchanged(header, results):
        return []
    listed = ", ".join(header[index].strip() for index in sorted(results))
    message = (
        "The file was read as a file with results of an earlier import, because of its columns "
        f"{listed}. They are ignored, and an apostrophe at the beginning of a cell was removed. "
        "If it is a file of your own, rename one of these columns."
    )
    return [Notice(code="results_file", message=message)]


def _warn_of_unnamed_columns(columns: Sequence[CsvColumn], rows: Sequence[CsvRow]) -> list[Notice]:
    indices = [
        index for index, column in enumerate(columns) if not column.name and not column.is_result
    ]
    used: dict[int, list[int]] = {}
    for number, row in enumerate(rows if indices else (), 1):
        for index in indices:
            if index < len(row.cells) and row.cells[index].strip():
                used.setdefault(index, []).append(number)
    if not used:
        return []
    listed = ", ".join(f"column {index + 1}" for index in list(used)[:MAX_LISTED_COLUMNS])
    message = (
        f"Columns without a name have values: {listed}. They are ignored. With strict=true, such "
        "a value makes its row fail. Name these columns, or remove them."
    )
    numbers = sorted({number for rows_of_column in used.values() for number in rows_of_column})
    return [Notice(code="unnamed_column", message=message, row_numbers=numbers[:MAX_ROWS])]
