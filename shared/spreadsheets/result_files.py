"""Writes an import's rows with their results, in the form of the file that was uploaded.

Such a file can be uploaded again as it is: `read_csv` ignores its result columns and restores its
cells. A spreadsheet program runs a cell that begins with certain characters as a formula (OWASP,
"CSV Injection"), so each such cell gets an apostrophe. A cell that begins with an apostrophe gets
another one. So removing one apostrophe from each cell that has one restores every text exactly.
"""

import codecs
import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from shared.spreadsheets.delimiters import find_beginning

RESULT_COLUMNS = ("line", "status", "pin_id", "schedule_id", "error_code", "error_message")
"""The columns that follow those of the upload."""
_IDENTIFYING_COLUMNS = frozenset({"line", "status", "error_code", "error_message"})
"""A file that has all of them is a file with results."""
FORMULA_CHARACTERS = frozenset("=+-@\t\r\n＝＋－＠")
"""The characters that begin a formula, and their full-width forms (OWASP)."""
APOSTROPHE = "'"
CHUNK_CHARACTERS = 64 * 1024


class RowWithResult(NamedTuple):
    """A row of a file with results."""

    cells: Sequence[str]
    """The row's own cells."""
    result: Sequence[str]
    """The cells of RESULT_COLUMNS."""


def find_result_columns(header: Sequence[str]) -> frozenset[int]:
    """Returns the indices of the result columns. Empty if the file has no results.

    A file may have a column of its own with the name of a result column. The last one is ours.
    """
    indices = {cell.strip(): index for index, cell in enumerate(header)}
    if not indices.keys() >= _IDENTIFYING_COLUMNS:
        return frozenset()
    return frozenset(indices[name] for name in RESULT_COLUMNS if name in indices)


def is_unchanged(header: Sequence[str], results: Collection[int]) -> bool:
    """Returns whether the result columns stand as `write_results` has written them."""
    first, last = min(results), max(results)
    return tuple(header[first : last + 1]) == RESULT_COLUMNS


def protect(cell: str) -> str:
    """Returns the cell in a form that no spreadsheet program runs as a formula."""
    return APOSTROPHE + cell if _needs_apostrophe(cell) else cell


def restore(cell: str) -> str:
    """Returns the cell as it was before `protect`."""
    return cell.removeprefix(APOSTROPHE)


def write_results(
    header: Sequence[str], delimiter: str, rows: Iterable[RowWithResult]
) -> Iterator[bytes]:
    """Writes a file with results, in chunks.

    It is UTF-8 with a byte order mark, without which Excel would read it as Windows-1252. Cells
    beyond the header stand behind the result columns, so that these stay in their places.
    """
    buffer = io.StringIO(newline="")
    buffer.write(_write_header([*map(protect, header), *RESULT_COLUMNS], delimiter))
    writer = csv.writer(buffer, delimiter=delimiter)
    width = len(header)
    yield codecs.BOM_UTF8
    for cells, result in rows:
        missing = [""] * (width - len(cells))
        written = [*cells[:width], *missing, *result, *_drop_blank_end(cells[width:])]
        writer.writerow([protect(cell) for cell in written])
        if buffer.tell() >= CHUNK_CHARACTERS:
            yield _take(buffer)
    yield _take(buffer)


def _write_header(cells: Sequence[str], delimiter: str) -> str:
    """Writes the first line. Quotes all names if its delimiter could not be detected otherwise."""
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=delimiter, quoting=quoting).writerow(cells)
        if find_beginning(line.getvalue()).delimiter == delimiter:
            break
    return line.getvalue()


def _take(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    # JSON may have half of a surrogate pair, which UTF-8 can't represent
    return text.encode("utf-8", "backslashreplace")


def _needs_apostrophe(cell: str) -> bool:
    if not cell:
        return False
    first = cell[0]
    if first == APOSTROPHE or first in FORMULA_CHARACTERS:
        return True
    if first.isprintable() and not first.isspace():
        return False
    # Some programs drop blanks and invisible characters before they look for a formula
    visible = (char for char in cell if char.isprintable() and not char.isspace())
    return next(visible, "") in FORMULA_CHARACTERS


def _drop_blank_end(cells: Sequence[str]) -> Sequence[str]:
    return cells if "".join(cells).strip() else ()
