"""Joins the files of failed rows of a file's imports into one. Does no I/O."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from shared.spreadsheets.delimiters import find_beginning
from shared.spreadsheets.result_files import (
    RESULT_COLUMNS,
    RowWithResult,
    restore,
    write_results,
)

_LINE = RESULT_COLUMNS.index("line")


class FailedRows(NamedTuple):
    """The file of failed rows of one import."""

    content: bytes
    lines: Sequence[int | None]
    """The line of each row in the whole file. None: the row keeps the line that it has."""


class _Table(NamedTuple):
    header: Sequence[str]
    delimiter: str
    rows: Sequence[RowWithResult]


def join_failed_rows(files: Iterable[FailedRows]) -> bytes:
    """Returns one file with the rows of all, at least one. Their lines are those of the whole file.

    The imports of one CSV file have the same columns. Those of JSON may have different ones.
    """
    tables = [_read(file) for file in files]
    header = list(tables[0].header)
    if all(table.header == tables[0].header for table in tables):
        rows: Iterator[RowWithResult] = (row for table in tables for row in table.rows)
    else:
        header = list(dict.fromkeys(name for table in tables for name in table.header))
        rows = (_arrange(row, table.header, header) for table in tables for row in table.rows)
    return b"".join(write_results(header, tables[0].delimiter, rows))


def _read(file: FailedRows) -> _Table:
    text = file.content.decode("utf-8-sig")
    delimiter = find_beginning(text).delimiter
    csv.field_size_limit(len(text) + 1)  # Python's default would refuse a cell of 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [restore(cell) for cell in next(reader)]
    width = len(header) - len(RESULT_COLUMNS)
    rows = [
        _build_row([restore(cell) for cell in cells], width, line)
        for cells, line in zip(reader, file.lines, strict=True)
    ]
    return _Table(header[:width], delimiter, rows)


def _build_row(cells: Sequence[str], width: int, line: int | None) -> RowWithResult:
    end = width + len(RESULT_COLUMNS)
    result = list(cells[width:end])
    if line is not None:
        result[_LINE] = str(line)
    return RowWithResult([*cells[:width], *cells[end:]], result)


def _arrange(row: RowWithResult, header: Sequence[str], wanted: Sequence[str]) -> RowWithResult:
    values = dict(zip(header, row.cells, strict=False))
    return row._replace(cells=[values.get(name, "") for name in wanted])
