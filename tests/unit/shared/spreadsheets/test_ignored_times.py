"""Times in columns that are ignored: without a column `run_at`, future ones refuse the file."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.contract.errors import ApiError
from shared.spreadsheets.ignored_times import refuse_ignored_times
from shared.spreadsheets.result_files import RESULT_COLUMNS
from shared.spreadsheets.table import CsvTable, read_csv
from tests.unit.shared.spreadsheets.files import HEADER, ROW

NOW = datetime(2026, 12, 10, 12, tzinfo=UTC)
FUTURE = "2026-12-24T09:00:00Z"


def read(names: str, *rows: str, **options: Any) -> CsvTable:
    """Reads a file with more columns, of these names and with these cells."""
    lines = [f"{HEADER},{names}", *(f"{ROW},{cells}" for cells in rows)]
    return read_csv("\n".join(lines).encode(), **options)


def find_refusal(table: CsvTable, zone: ZoneInfo | None = None) -> ApiError | None:
    try:
        refuse_ignored_times(table, NOW, zone)
    except ApiError as refusal:
        return refusal
    return None


def read_column(cells: Sequence[str]) -> CsvTable:
    return read("Date", *(f'"{cell}"' for cell in cells))


@pytest.mark.parametrize("name", ["Date", "Datum", "Start", "When", "Zeit", "run_at_utc", "Slot"])
@pytest.mark.parametrize("keep_unknown", [False, True])
def test_a_future_time_in_an_unknown_column_refuses_the_file(name: str, keep_unknown: bool) -> None:
    table = read(name, "", "2020-01-01T00:00:00Z", FUTURE, keep_unknown=keep_unknown)
    refusal = find_refusal(table)
    assert refusal is not None
    assert (refusal.code, refusal.status) == ("unknown_columns", 422)
    assert refusal.details == {"columns": [{"column": name, "suggestion": "run_at"}]}
    assert refusal.message == (
        f"A column has times in the future: {name}. But there is no column run_at, so every pin "
        "would be published now. If it says when to publish, name it run_at. If it does not, "
        "remove it, or add an empty column run_at."
    )


def test_all_such_columns_are_named_at_once() -> None:
    refusal = find_refusal(read("Date,Price,Until,", f"{FUTURE},5,2027-01-01,31.12.2026"))
    assert refusal is not None
    assert [column["column"] for column in refusal.details["columns"]] == [
        "Date",
        "Until",
        "column 9",
    ]
    assert refusal.message == (
        "Columns have times in the future: Date, Until, column 9. But there is no column run_at, "
        "so every pin would be published now. If one of them says when to publish, name it run_at. "
        "Remove the others, or add an empty column run_at."
    )


@pytest.mark.parametrize("name", ["run_at", "Run At", "Publish date", "post date", "Scheduled on"])
def test_a_column_run_at_is_enough_even_if_it_is_empty(name: str) -> None:
    assert find_refusal(read(f"Date,{name}", f"{FUTURE},")) is None


@pytest.mark.parametrize(
    "cell",
    [
        "2026-12-24",
        "2026-12-12",
        "2026-12-24 09:00",
        "2026-12-11 02:01",
        " 2026-12-24T09:00 ",
        "2026-12-10T13:30:00+01:00",
        "2026-12-10 12:30 UTC",
        "20261224T090000Z",
        "2026-12-24T09:00:00 CET",
        "2026/12/24 9:00",
        "2026.12.24",
        "24.12.2026",
        "24.12.2026 09:00",
        "24.12.2026, 9.00 Uhr",
        "24.12.2026 um 9 Uhr",
        "24. 12. 2026 09:00:00",
        "24.12.26 9:00",
        "1.2.2027",
        "12/24/2026 9:00 AM",
        "12/24/26 9:00 PM",
        "24/12/2026",
        "12-24-2026",
        "11/12/2026 12:30",
        "12/11/2026 2:30 a.m.",
        "12/12/2026",
        "2031-12-31",
    ],
)
def test_a_future_time_is_found_in_the_forms_that_spreadsheets_write(cell: str) -> None:
    assert find_refusal(read_column(["", cell])) is not None


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "2026-12-10",
        "2026-12-09T23:59:59Z",
        "2026-12-10T12:30:00+01:00",
        "2026-12-10 11:59",
        "2020-01-01 10:00",
        "09.12.2026",
        "12.10.2026 10:00",
        "12/9/2026",
        "12/10/2026 11:00 AM",
        "12/10/2026 12:00:00 AM",
        "24.12.25",
        "1.4.30",
        "12/24/36",
        "01-02-4567",
        "9999-12-31",
        "9999-12-31T23:59:59-01:00",
        "2026-13-45",
        "45.45.2030",
        "2030",
        "20301224",
        "46380",
        "46380.375",
        "10.20.30.40",
        "2030-12-24-lamp",
        "2030-12-24 Christmas",
        "2-24-30",
        "19,90",
        "+49 30 123456",
        "https://shop.example/2030-12-24",
        "Sale of 2030-12-24",
        "tomorrow",
        "２030-12-24",
        "2030-12-24 " + "9" * 64,
    ],
)
def test_other_texts_and_past_times_do_not_refuse_the_file(cell: str) -> None:
    assert find_refusal(read_column([cell, cell])) is None


def test_a_time_without_an_offset_is_read_in_the_zone_of_the_import() -> None:
    table = read_column(["2026-12-10 13:30"])
    assert find_refusal(table, ZoneInfo("America/New_York")) is not None
    assert find_refusal(table, ZoneInfo("Asia/Tokyo")) is None


def test_without_a_zone_a_time_counts_if_it_is_in_the_future_everywhere() -> None:
    assert find_refusal(read_column(["2026-12-11 01:59", "11.12.2026"])) is None
    assert find_refusal(read_column(["2026-12-11 02:01"])) is not None


@pytest.mark.parametrize(
    ("cells", "is_refused"),
    [
        (["1/25/2026", "2/12/2026"], False),  # the month is first: February
        (["25/1/2026", "2/12/2026"], False),  # the day is first: 2 December
        (["25/1/2026", "12/2/2026"], False),
        (["1/25/2026", "12/12/2026"], True),
        (["25/1/2026", "1/25/2026", "2/1/2027"], True),
        (["5/1/2026", "12/5/2026", "5/12/2026"], False),
        (["5/1/2027", "1/5/2026"], True),
    ],
)
def test_the_columns_other_cells_decide_whether_the_day_or_the_month_is_first(
    cells: list[str], *, is_refused: bool
) -> None:
    assert (find_refusal(read_column(cells)) is not None) is is_refused


def test_a_date_that_may_be_in_the_future_counts_if_no_cell_decides() -> None:
    assert find_refusal(read_column(["3/12/2026", "12/1/2026"])) is None
    assert find_refusal(read_column(["1/12/2026", "12/12/2026"])) is not None


def test_times_in_other_columns_are_not_looked_at() -> None:
    table = read("description", FUTURE)
    assert find_refusal(table) is None
    table = read(",".join(RESULT_COLUMNS), f"2,failed,{FUTURE},,blank,{FUTURE}")
    assert find_refusal(table) is None


def test_a_row_may_have_fewer_cells_than_the_header() -> None:
    table = read_csv(f"{HEADER},description,Date\n{ROW}\n{ROW},,{FUTURE}\n".encode())
    assert find_refusal(table) is not None


def test_a_hostile_file_is_examined_in_a_short_time() -> None:
    """Takes half a second of CPU time."""
    names = ",".join(f"c{number}" for number in range(190))
    cells = ["2026-12-01 " + "9" * 40, "2026-12-01T00:00:00-05:00", "1. 2. 2020 " + "p.m " * 12]
    table = read(names, *([",".join((cells * 64)[:190])] * 500))
    started = time.process_time()
    assert find_refusal(table) is None
    assert time.process_time() - started < (5 if sys.gettrace() is None else 50)
