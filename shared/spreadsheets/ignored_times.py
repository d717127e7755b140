"""Refuses a file with future times in columns that are ignored, if it has no column `run_at`.

A column with a name such as Date may say when to publish. Pinflow does not know the name, so every
pin would be published at once.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from zoneinfo import ZoneInfo

from shared.contract.errors import ApiError, ErrorCode
from shared.spreadsheets.columns import MAX_LISTED_COLUMNS
from shared.spreadsheets.table import CsvTable

MAX_EXAMINED_CHARACTERS = 64
"""A longer cell is a text, not a time."""
MAX_YEARS_AHEAD = 5
"""A later year is rather a part of a number, or stands for "without an end"."""
EARLIEST_ZONE = timedelta(hours=14)
"""The largest offset from UTC. Nowhere is the clock further ahead."""
_RUN_AT = "run_at"
_CENTURY = 2000
_TWO_DIGITS = 100
_HALF_DAY = 12
_MONTHS = 12
_DAYS = 31
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
_AM_OR_PM = re.compile(r"(?P<half>[ap])\.?m\.?$", re.IGNORECASE).search


class _Order(Enum):
    """Names which of day and month a column writes first."""

    DAY_FIRST = auto()
    MONTH_FIRST = auto()


def refuse_ignored_times(table: CsvTable, now: datetime, zone: ZoneInfo | None = None) -> None:
    """Raises ApiError if no column is `run_at`, and an ignored one has a time after `now`.

    `zone` is the time zone of times without an offset. Without it such a time counts if it is in
    the future everywhere: the cells of a file that was written a minute ago do not. A file that
    has a column `run_at`, or no ignored column, costs a look at its header.
    """
    if any(column.field == _RUN_AT for column in table.columns):
        return
    local_now = now.astimezone(zone) if zone else now.astimezone(UTC) + EARLIEST_ZONE
    names = [
        column.name or f"column {index + 1}"
        for index, column in enumerate(table.columns)
        if not column.field
        and not column.is_result
        and _has_future_time(_read_column(table, index), now, local_now)
    ]
    if names:
        raise _build_refusal(names)


def _read_column(table: CsvTable, index: int) -> Iterator[str]:
    return (row.cells[index] for row in table.rows if index < len(row.cells))


def _build_refusal(names: Sequence[str]) -> ApiError:
    listed = names[:MAX_LISTED_COLUMNS]
    subject, choice, rest = (
        (f"A column has times in the future: {names[0]}.", "it says", "If it does not, remove it")
        if len(names) == 1
        else (
            f"Columns have times in the future: {', '.join(listed)}.",
            "one of them says",
            "Remove the others",
        )
    )
    message = (
        f"{subject} But there is no column {_RUN_AT}, so every pin would be published now. If "
        f"{choice} when to publish, name it {_RUN_AT}. {rest}, or add an empty column {_RUN_AT}."
    )
    columns = [{"column": name, "suggestion": _RUN_AT} for name in listed]
    return ApiError(ErrorCode.UNKNOWN_COLUMNS, message, columns=columns)


def _has_future_time(cells: Iterator[str], now: datetime, local_now: datetime) -> bool:
    """Returns whether a cell is a time after now, or a date after today.

    Dates with slashes or hyphens have the day first or the month first: the column's other cells
    decide, and if they don't, both count.
    """
    possible, future = set(_Order), set[_Order]()
    for cell in cells:
        if (parts := _parse(cell)) is None:
            continue
        if parts["separator"] in {None, "."}:  # no country writes the month first with dots
            if _is_future(parts, _Order.DAY_FIRST, now, local_now):
                return True
            continue
        possible &= {order for order in _Order if _is_date(*_read_date(parts, order))}
        future |= {order for order in _Order if _is_future(parts, order, now, local_now)}
    return bool(future & possible if possible else future)


def _parse(cell: str) -> re.Match[str] | None:
    # Nearly every other text is sorted out here, in 0.1 µs
    if not cell or len(cell) > MAX_EXAMINED_CHARACTERS:
        return None
    text = cell.strip()
    return _PARTS(text) if text[:1].isdigit() else None


def _is_future(parts: re.Match[str], order: _Order, now: datetime, local_now: datetime) -> bool:
    """Compares the numbers of a time, without a datetime: a hostile file has 100 000 such cells."""
    year, month, day = _read_date(parts, order)
    hour, minute, rest = parts["hour"], int(parts["minute"] or 0), parts["rest"]
    if year < _TWO_DIGITS:
        if not hour:  # rather a version or a size, such as 1.4.30
            return False
        year += _CENTURY
    present = local_now
    time_of_day = int(hour or 0)
    if rest and (offset := _OFFSET(rest)) is not None:
        present = _move(now, offset)
    elif rest and (half := _AM_OR_PM(rest)) is not None:
        time_of_day = time_of_day % _HALF_DAY + (_HALF_DAY if half["half"] in "pP" else 0)
    return (
        _is_date(year, month, day)
        and year <= present.year + MAX_YEARS_AHEAD
        and (year, month, day, time_of_day, minute)
        > (present.year, present.month, present.day, present.hour, present.minute)
    )


def _is_date(_year: int, month: int, day: int) -> bool:
    return 0 < month <= _MONTHS and 0 < day <= _DAYS


def _read_date(parts: re.Match[str], order: _Order) -> tuple[int, int, int]:
    """Returns the year, month and day."""
    if compact := parts["compact"]:
        return int(compact[:4]), int(compact[4:6]), int(compact[6:])
    if parts["year"]:
        return int(parts["year"]), int(parts["month"]), int(parts["day"])
    first, second, year = int(parts["first"]), int(parts["second"]), int(parts["last"])
    return (year, second, first) if order is _Order.DAY_FIRST else (year, first, second)


def _move(now: datetime, offset: re.Match[str]) -> datetime:
    """Returns the time with this offset from UTC."""
    distance = timedelta(hours=int(offset["hours"] or 0), minutes=int(offset["minutes"] or 0))
    utc = now.astimezone(UTC)
    return utc + distance if offset["sign"] == "+" else utc - distance
