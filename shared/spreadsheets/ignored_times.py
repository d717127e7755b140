"""Refuses a file with future times in columns that are ignored, if it has no column `run_at`.

A column with a name such as Date may say when to publish. Pinflow does not know the name, so every
pin would be published at once.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from zoneinfo import ZoneInfo

from shared.contract.errors import ApiError, ErrorCode
from shared.spreadsheets.columns import MAX_LISTED_COLUMNS, CsvColumn
from shared.spreadsheets.table import CsvTable

MAX_EXAMINED_CHARACTERS = 64
"""A longer cell is a text, not a time."""
_RUN_AT = "run_at"
_CENTURY = 2000
_TWO_DIGITS = 100
_HALF_DAY = 12
_MONTHS = 12
_DAYS = 31
_Date: TypeAlias = tuple[int, int, int]
"""Year, month and day."""
_PARTS = re.compile(
    r"(?:(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})"
    r"|(?P<first>\d{1,2})(?P<separator>[-/.])\s?(?P<second>\d{1,2})(?P=separator)\s?"
    r"(?P<last>\d{4}|(?<!-)\d\d)"
    r"|(?P<compact>\d{8})(?=T\d))"
    r"(?:$|[T,\s]+(?:\D{1,6}\s)?"
    r"(?P<hour>\d{1,2})(?:[:.h]?(?P<minute>\d\d))?(?P<rest>.*)$)",
    re.IGNORECASE | re.ASCII | re.DOTALL,
).match
"""Finds the parts of a date, with or without a time of day. A number alone is no date."""
_OFFSET = re.compile(
    r"(?:Z|UTC|GMT|(?P<sign>[+\-\u2212])(?P<hours>\d\d)(?::?(?P<minutes>\d\d))?)$",
    re.IGNORECASE | re.ASCII,
).search
_PM = re.compile(r"p\.?m\.?$", re.IGNORECASE).search


def refuse_ignored_times(table: CsvTable, now: datetime, zone: ZoneInfo | None = None) -> None:
    """Raises ApiError if no column is `run_at`, and an ignored one has a time after `now`.

    `zone` is the time zone of times without an offset; without it they are read as UTC. A file
    that has a column `run_at`, or no ignored column, costs a look at its header.
    """
    if any(column.field == _RUN_AT for column in table.columns):
        return
    ignored = [
        (index, column)
        for index, column in enumerate(table.columns)
        if not column.field and not column.is_result
    ]
    local_now = now.astimezone(zone or UTC)
    names = [
        _name(index, column)
        for index, column in ignored
        if any(_is_future(cell, local_now) for cell in _read_column(table, index))
    ]
    if names:
        raise _build_refusal(names)


def _read_column(table: CsvTable, index: int) -> Iterator[str]:
    return (row.cells[index] for row in table.rows if index < len(row.cells))


def _name(index: int, column: CsvColumn) -> str:
    return column.name or f"number {index + 1}"


def _build_refusal(names: Sequence[str]) -> ApiError:
    listed = names[:MAX_LISTED_COLUMNS]
    subject, choice = (
        (f"The column {names[0]} has", f"If {names[0]} says")
        if len(names) == 1
        else (f"The columns {', '.join(listed)} have", "If one of them says")
    )
    rest = "If it does not, remove it" if len(names) == 1 else "Remove the others"
    message = (
        f"{subject} times in the future, but there is no column {_RUN_AT}, so every pin would be "
        f"published now. {choice} when to publish, rename it to {_RUN_AT}. {rest}, or add an empty "
        f"column {_RUN_AT}."
    )
    columns = [{"column": name, "suggestion": _RUN_AT} for name in listed]
    return ApiError(ErrorCode.UNKNOWN_COLUMNS, message, columns=columns)


def _is_future(cell: str, now: datetime) -> bool:
    """Returns whether the cell is a time after `now`, or a date after the day of `now`.

    A time without an offset is read in the time zone of `now`. Its numbers are compared, without a
    datetime: a hostile file has 100 000 such cells, which take half a second.
    """
    # Nearly every other text is sorted out here, in 0.1 µs
    if not cell or len(cell) > MAX_EXAMINED_CHARACTERS:
        return False
    text = cell.strip()
    if not text[:1].isdigit() or (parts := _PARTS(text)) is None:
        return False
    hour, minute, rest = parts["hour"], parts["minute"], parts["rest"]
    if rest:
        if (offset := _OFFSET(rest)) is not None:
            now = _move(now, offset)
        elif hour and int(hour) < _HALF_DAY and _PM(rest):
            hour = str(int(hour) + _HALF_DAY)
    present = (now.year, now.month, now.day, now.hour, now.minute)
    return any((*date, int(hour or 0), int(minute or 0)) > present for date in _find_dates(parts))


def _move(now: datetime, offset: re.Match[str]) -> datetime:
    """Returns the time with this offset from UTC."""
    distance = timedelta(hours=int(offset["hours"] or 0), minutes=int(offset["minutes"] or 0))
    utc = now.astimezone(UTC)
    return utc + distance if offset["sign"] == "+" else utc - distance


def _find_dates(parts: re.Match[str]) -> list[_Date]:
    """Returns the dates that the text may mean: two if day and month may be in either order."""
    if compact := parts["compact"]:
        dates = [(int(compact[:4]), int(compact[4:6]), int(compact[6:]))]
    elif parts["year"]:
        dates = [(int(parts["year"]), int(parts["month"]), int(parts["day"]))]
    else:
        first, second, year = int(parts["first"]), int(parts["second"]), int(parts["last"])
        if year < _TWO_DIGITS:
            year += _CENTURY
        dates = [(year, second, first), (year, first, second)]
    possible = [date for date in dates if 0 < date[1] <= _MONTHS and 0 < date[2] <= _DAYS]
    # No country writes the month first with dots
    return possible[:1] if parts["separator"] == "." else possible
