"""Splits the rows of a file into portions that one import can have. Does no I/O."""

import codecs
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROWS, Notice
from shared.contract.field_names import find_alias
from shared.contract.shared_keys import KeyedContent
from shared.contract.strict_json import parse_json
from shared.spreadsheets.ignored_times import refuse_ignored_times
from shared.spreadsheets.table import read_csv

_WHITE_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class RowSource:
    """A file's rows, each as the bytes that a portion has of it."""

    whole: bytes
    """The file as it is."""
    rows: Sequence[bytes]
    run_at: Sequence[object]
    """The value of `run_at` of each row, or None."""
    prefix: bytes = b""
    separator: bytes = b""
    suffix: bytes = b""
    lines: Sequence[int] | None = None
    """The line of a CSV file in which each row begins."""
    warnings: Sequence[Notice] = field(default=())
    """Warnings about the file as a whole."""
    keyed_contents: Sequence[KeyedContent] = ()
    """The keys and contents of the rows that have a key."""

    def find_earlier_keys(self) -> dict[int, int]:
        """Returns the last earlier row with the same key, for each row that has one."""
        earlier: dict[int, int] = {}
        last: dict[str, int] = {}
        for row in self.keyed_contents:
            if row.key in last:
                earlier[row.row_number] = last[row.key]
            last[row.key] = row.row_number
        return earlier

    def choose_end(self, start: int, max_bytes: int) -> int:
        """Returns the end of the longest portion from `start` that has at most `max_bytes`.

        It has at least one row, even if that is too large.
        """
        size = len(self.prefix) + len(self.suffix)
        for index in range(start, min(start + MAX_ROWS, len(self.rows))):
            size += len(self.rows[index]) + (len(self.separator) if index > start else 0)
            if size > max_bytes and index > start:
                return index
        return min(start + MAX_ROWS, len(self.rows))

    def find_too_large(self, start: int, max_bytes: int) -> int | None:
        """Returns the index of the first row from `start` that is too large alone."""
        max_row_bytes = max_bytes - len(self.prefix) - len(self.suffix)
        return next(
            (
                index
                for index in range(start, len(self.rows))
                if len(self.rows[index]) > max_row_bytes
            ),
            None,
        )

    def build_portion(self, start: int, end: int) -> bytes:
        return self.prefix + self.separator.join(self.rows[start:end]) + self.suffix

    def fits(self, max_bytes: int) -> bool:
        """Returns whether the file can be sent as it is."""
        return len(self.rows) <= MAX_ROWS and len(self.whole) <= max_bytes


def split_json(data: bytes) -> RowSource:
    """Splits an array of rows. Each row keeps its text, so numbers and escapes stay as they are.

    Raises ApiError if the document is not JSON, or is a long array with something else than rows.
    """
    # A doubled mark is read as well (parse_json)
    encoded = data.removeprefix(codecs.BOM_UTF8).removeprefix(codecs.BOM_UTF8)
    document = parse_json(encoded)
    if not isinstance(document, list):
        return RowSource(data, [], [])
    for number, row in enumerate(document, 1):
        if not isinstance(row, dict) and len(document) > MAX_ROWS:
            raise ApiError(
                ErrorCode.INVALID_PAYLOAD,
                f"Row {number} is not an object. Write each row as an object: {{…}}.",
            )
    return RowSource(
        data,
        _slice_array(encoded.decode()),
        [_find_run_at(row) for row in document],
        prefix=b"[",
        separator=b",\n",
        suffix=b"]",
        keyed_contents=_read_keyed_contents(document),
    )


def _slice_array(text: str) -> list[bytes]:
    """Returns the text of each element of a valid JSON array."""
    decoder = json.JSONDecoder()
    elements: list[bytes] = []
    position = _skip_white_space(text, _skip_white_space(text, 0) + 1)
    while text[position] != "]":
        if elements:  # a comma
            position = _skip_white_space(text, position + 1)
        _, end = decoder.raw_decode(text, position)
        elements.append(text[position:end].encode())
        position = _skip_white_space(text, end)
    return elements


def _skip_white_space(text: str, position: int) -> int:
    while text[position] in _WHITE_SPACE:
        position += 1
    return position


def _find_run_at(row: Any) -> object:
    return _find_value(row, "run_at") if isinstance(row, dict) else None


def _find_value(row: dict[str, Any], field_name: str) -> object:
    """Returns the value of a field that may be named by an alias. Returns None if it is absent."""
    if (value := row.get(field_name)) is not None:
        return value
    return next((row[name] for name in row if find_alias(name) == field_name), None)


def _read_keyed_contents(rows: Sequence[Any]) -> list[KeyedContent]:
    """Reads the key of each row, and its values without blank ones and surrounding white space."""
    contents = []
    for number, row in enumerate(rows, 1):
        key = _find_value(row, "idempotency_key") if isinstance(row, dict) else None
        if isinstance(key, str) and key.strip():
            values = {
                name: value.strip() if isinstance(value, str) else value
                for name, value in row.items()
            }
            content = {
                name: value for name, value in values.items() if value is not None and value != ""
            }
            contents.append(KeyedContent(number, key.strip(), content))
    return contents


def split_csv(
    data: bytes,
    encoding: str | None,
    now: datetime,
    zone: ZoneInfo | None,
    *,
    has_account: bool,
) -> RowSource:
    """Splits a CSV file. Its portions are UTF-8. Raises ApiError.

    `has_account`: rows may lack an account, so the file may lack its column.
    """
    table = read_csv(
        data,
        encoding=encoding,
        max_rows=None,
        optional=("account_id",) if has_account else (),
    )
    # Pinflow refuses a portion with such times, but would publish the portions before it
    refuse_ignored_times(table, now, zone)
    delimiter = table.header.delimiter
    return RowSource(
        data,
        [_encode_row(row.cells, delimiter) for row in table.rows],
        [_find_run_at(row.values) for row in table.rows],
        prefix=_encode_row(table.header.cells, delimiter),
        lines=[row.line for row in table.rows],
        warnings=table.warnings,
        keyed_contents=_read_keyed_contents([row.values for row in table.rows]),
    )


def _encode_row(cells: Sequence[str], delimiter: str) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerow(cells)
    return buffer.getvalue().encode()
