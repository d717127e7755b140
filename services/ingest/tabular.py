"""CSV as spreadsheets write it: several encodings, three delimiters, quoted line breaks, blank lines."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.ingest.parsing import Misshapen, RawRow, require_row_count
from shared.errors import ErrorCode, RequestRefused
from shared.events import MAX_ROWS, Notice
from shared.pins import PinSubmission, printable

DELIMITERS = ",;\t"
REQUIRED = tuple(name for name, field in PinSubmission.model_fields.items() if field.is_required())
KNOWN = frozenset(PinSubmission.model_fields)
MAX_CELL = 2**31 - 1
MOST_NAMES_SHOWN = 50

GUESSED_ENCODING = Notice(
    code="guessed_encoding",
    message="The file is not UTF-8; it was read as Windows-1252. Check letters with accents, or save it as UTF-8.",
)


class Table(NamedTuple):
    rows: list[RawRow]
    warnings: list[Notice]


def parse_csv(data: bytes) -> Table:
    """The data rows below the header, by its names; empty cells are absent. Raises RequestRefused."""
    text, warnings = _decode(data)
    csv.field_size_limit(MAX_CELL)  # the body's limit is the cell's; Python's own, 128 KiB, would refuse the whole file
    delimiter = _detect_delimiter(text)
    records = _records(text, delimiter)
    header = next(records, None)
    if header is None:
        raise RequestRefused(ErrorCode.EMPTY_FILE, "The file is empty: there is no header.")
    names = _check_header(header)
    rows: list[RawRow] = []
    count = 0
    for cells in records:
        count += 1
        if count <= MAX_ROWS:
            rows.append(_row(names, cells))
    require_row_count(count)
    return Table(rows, warnings)


def _decode(data: bytes) -> tuple[str, list[Notice]]:
    """UTF-8 with or without BOM, UTF-16 with BOM, and Windows-1252 as the last resort."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16"), []
        except UnicodeDecodeError as error:
            raise _undecodable("UTF-16", data[: error.start].decode("utf-16", errors="replace")) from None
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as utf8_error:
        if data.startswith(codecs.BOM_UTF8):
            raise _undecodable("UTF-8", data[: utf8_error.start].decode("utf-8", errors="replace")) from None
    try:
        return data.decode("cp1252"), [GUESSED_ENCODING]
    except UnicodeDecodeError as error:
        raise _undecodable("UTF-8 or Windows-1252", data[: error.start].decode("latin-1")) from None


def _undecodable(encoding: str, before: str) -> RequestRefused:
    line = before.count("\n") + 1
    return RequestRefused(ErrorCode.INVALID_ENCODING, f"Line {line} can't be read as {encoding}. Save the file as UTF-8.", line=line)


def _detect_delimiter(text: str) -> str:
    """The one under which the header has the most names we know; the comma when none has."""

    def known_names(delimiter: str) -> int:
        try:
            header = next(_records(text, delimiter), [])
        except RequestRefused:
            return 0
        return len(KNOWN.intersection(_normalised(header)))

    return max(DELIMITERS, key=known_names)


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """Records that are not blank. A line of nothing but delimiters, which spreadsheets leave behind, is blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _invalid(str(error), first_line) from None
        if any(cell and not cell.isspace() for cell in cells):
            yield cells


def _invalid(error: str, line: int) -> RequestRefused:
    if "unexpected end of data" in error:
        message = f"A quote that opens in the row beginning at line {line} never closes."
    else:
        message = f"The row beginning at line {line} is no CSV: {error}."
    return RequestRefused(ErrorCode.INVALID_CSV, message, line=line)


def _normalised(header: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _check_header(header: Sequence[str]) -> list[str]:
    names = _normalised(header)
    found = [printable(name, 100) for name in names[:MOST_NAMES_SHOWN]]
    doubled = sorted({name for name in names if name and names.count(name) > 1})
    if doubled:
        message = f"Columns that appear more than once: {', '.join(printable(name, 100) for name in doubled[:MOST_NAMES_SHOWN])}."
        raise RequestRefused(ErrorCode.DUPLICATE_COLUMNS, message, found=found)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        message = f"Columns that are missing: {', '.join(missing)}. The first line must name the columns; found: {', '.join(found)}."
        raise RequestRefused(ErrorCode.MISSING_COLUMNS, message, missing=missing, found=found)
    return names


def _row(names: Sequence[str], cells: Sequence[str]) -> RawRow:
    if len(cells) != len(names):
        return Misshapen(f"expected {len(names)} cells, found {len(cells)}")
    return {name: cell for name, cell in zip(names, cells, strict=True) if cell}
