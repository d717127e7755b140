"""Parses CSV files as spreadsheets write them.

A file may have any of several encodings and three delimiters, quoted line breaks and blank lines.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from services.ingest.parsing.rows import RawRow, WrongCellCount, require_row_count
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROWS, Notice
from shared.contract.pins import PinSubmission, make_printable

DELIMITERS = ",;\t"
REQUIRED_COLUMNS = tuple(
    name for name, field in PinSubmission.model_fields.items() if field.is_required()
)
KNOWN_COLUMNS = frozenset(PinSubmission.model_fields)
MAX_CELL_CHARACTERS = 2**31 - 1
MAX_COLUMNS = 200
MAX_LISTED_COLUMNS = 50
MAX_DETECTION_CHARACTERS = 20_000
"""Characters at the beginning of the header from which the delimiter is detected."""
MAX_PARSED_EXCESS_ROWS = 10_000
"""Rows over the limit that are parsed to be counted. After them only lines are counted, which takes
a quarter of the time. The file is refused in any case.
"""
BLANK_LINES = re.compile(r"[\s,;]*")

GUESSED_ENCODING = Notice(
    code="guessed_encoding",
    message=(
        "The file is not UTF-8 and was read as Windows-1252. Check letters with accents, or save "
        "the file as UTF-8."
    ),
)


class CsvTable(NamedTuple):
    rows: list[RawRow]
    warnings: list[Notice]


def parse_csv(data: bytes) -> CsvTable:
    """Returns the rows below the header, as cells by column name. Empty cells are left out.

    Raises ApiError.
    """
    text, warnings = _decode(data)
    # The body's limit is enough. Python's default limit of a cell, 128 KiB, would refuse the file
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    source = io.StringIO(text, newline="")
    lines_before = _seek_header(source, text)
    records = _read_records(source, _detect_delimiter(source), lines_before)
    header = next(records, None)
    if header is None:
        raise ApiError(
            ErrorCode.EMPTY_FILE, "The file is empty. Its first line must name the columns."
        )
    names = _check_header(header)
    warnings = [*warnings, *_warn_of_unknown_columns(names)]
    rows = [_build_row(names, cells) for cells in islice(records, MAX_ROWS)]
    require_row_count(len(rows) + _count_excess_rows(records, source))
    return CsvTable(rows, warnings)


def _warn_of_unknown_columns(names: Sequence[str]) -> list[Notice]:
    """Returns a warning about unknown columns, if there are any.

    Without it, a client would notice a misspelled column only after its rows are published and
    their idempotency keys are used up.
    """
    unknown = [make_printable(name, 100) for name in names if name and name not in KNOWN_COLUMNS]
    if not unknown:
        return []
    listed = ", ".join(unknown[:MAX_LISTED_COLUMNS])
    message = (
        f"Unknown columns: {listed}. Their cells are ignored. With strict=true, a value in them "
        "makes its row fail. Correct or remove these columns."
    )
    return [Notice(code="unknown_columns", message=message)]


def _decode(data: bytes) -> tuple[str, list[Notice]]:
    """Decodes UTF-8, UTF-16 with BOM or, as the last resort, Windows-1252, with a warning."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16"), []
        except UnicodeDecodeError as error:
            raise _undecodable(
                "UTF-16", data[: error.start].decode("utf-16", errors="replace")
            ) from None
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as utf8_error:
        if data.startswith(codecs.BOM_UTF8):
            raise _undecodable(
                "UTF-8", data[: utf8_error.start].decode("utf-8", errors="replace")
            ) from None
    try:
        return data.decode("cp1252"), [GUESSED_ENCODING]
    except UnicodeDecodeError as error:
        raise _undecodable("UTF-8 or Windows-1252", data[: error.start].decode("latin-1")) from None


def _undecodable(encoding: str, before: str) -> ApiError:
    line = before.count("\n") + 1
    return ApiError(
        ErrorCode.INVALID_ENCODING,
        f"Line {line} can't be read as {encoding}. Save the file as UTF-8.",
        line=line,
    )


def _seek_header(source: io.StringIO, text: str) -> int:
    """Moves to the first line that is not blank. Returns the number of lines before it."""
    blank = BLANK_LINES.match(text)
    end = blank.end() if blank else 0
    start = max(text.rfind("\n", 0, end), text.rfind("\r", 0, end)) + 1
    source.seek(start)
    return text.count("\n", 0, start) or text.count("\r", 0, start)


def _detect_delimiter(source: io.StringIO) -> str:
    """Returns the delimiter that gives the header the most known names. The default is a comma."""
    start = source.tell()
    # More than a line, because a quoted name may have line breaks
    beginning = source.read(MAX_DETECTION_CHARACTERS)
    source.seek(start)

    def count_known_names(delimiter: str) -> int:
        header = next(csv.reader(io.StringIO(beginning, newline=""), delimiter=delimiter), [])
        return len(KNOWN_COLUMNS.intersection(_normalize(header)))

    return max(DELIMITERS, key=count_known_names)


def _read_records(lines: Iterable[str], delimiter: str, lines_before: int) -> Iterator[list[str]]:
    """Yields the records that are not blank.

    A line of delimiters only, which spreadsheets write for an empty row, is blank.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    first_line = lines_before + 1
    try:
        for cells in reader:
            if cells and "".join(cells).strip():
                yield cells
            first_line = lines_before + reader.line_num + 1
    except csv.Error as error:
        raise _invalid_csv(str(error), first_line) from None


def _count_excess_rows(records: Iterator[list[str]], lines: Iterable[str]) -> int:
    counted = sum(1 for _ in islice(records, MAX_PARSED_EXCESS_ROWS))
    return counted + (
        sum(not line.isspace() for line in lines) if counted == MAX_PARSED_EXCESS_ROWS else 0
    )


def _invalid_csv(error: str, line: int) -> ApiError:
    if "unexpected end of data" in error:
        message = (
            f"The row that begins at line {line} has an unclosed quote. Close it or remove it."
        )
    else:
        message = f"The row that begins at line {line} is not valid CSV: {error}. Correct it."
    return ApiError(ErrorCode.INVALID_CSV, message, line=line)


def _normalize(header: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _check_header(header: Sequence[str]) -> list[str]:
    names = _normalize(header)
    listed = [make_printable(name, 100) for name in names[:MAX_LISTED_COLUMNS]]
    counts = Counter(filter(None, names))
    duplicates = sorted(name for name, count in counts.items() if count > 1)
    if duplicates:
        message = (
            "Columns that appear more than once: "
            f"{', '.join(make_printable(name, 100) for name in duplicates[:MAX_LISTED_COLUMNS])}. "
            "Keep one of each."
        )
        raise ApiError(ErrorCode.DUPLICATE_COLUMNS, message, found=listed)
    if len(counts) > MAX_COLUMNS:
        message = (
            f"The file has {len(counts)} columns; the limit is {MAX_COLUMNS}. Remove unused ones."
        )
        raise ApiError(ErrorCode.INVALID_CSV, message, limit=MAX_COLUMNS, count=len(counts))
    missing = [name for name in REQUIRED_COLUMNS if name not in counts]
    if missing:
        message = (
            f"Missing columns: {', '.join(missing)}. The first line must name the columns. "
            f"It names: {', '.join(listed)}."
        )
        raise ApiError(ErrorCode.MISSING_COLUMNS, message, missing=missing, found=listed)
    return names


def _build_row(names: Sequence[str], cells: Sequence[str]) -> RawRow:
    if len(cells) != len(names):
        advice = (
            "Quote cells that contain the delimiter."
            if len(cells) > len(names)
            else "Add the missing cells; those of optional columns may be empty."
        )
        return WrongCellCount(
            f"The row has {len(cells)} cells; the header has {len(names)}. {advice}"
        )
    return {name: cell for name, cell in zip(names, cells, strict=True) if cell}
