"""The time at which a pin is published: its spellings, time zones and impossible values."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic_core import PydanticCustomError

from shared.contract.run_at import is_ambiguous, parse_run_at

BERLIN = ZoneInfo("Europe/Berlin")
NINE = datetime(2031, 3, 10, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2031-03-10T10:00:00+01:00",
        "2031-03-10T10:00:00+01",
        "2031-03-10T10:00:00+0100",
        "2031-03-10 10:00:00+01",
        "2031-03-10 10:00:00 +0100",
        "2031-03-10 09:00:00 UTC",
        "2031-03-10T09:00:00 Z",
        "2031-03-10t09:00:00z",
        "2031-03-10T09:00Z",
        "2031-03-10T09:00:00.000Z",
        "2031-03-10T09:00:00,000000000Z",
        "20310310T090000Z",
        "20310310T0900Z",
        "  2031-03-10T09:00:00Z\n",
        "2031-03-10T04:00:00\u221205:00",
        "2031-03-10 09:00:00 gmt",
    ],
)
def test_every_spelling_of_iso_8601_is_read(value: str) -> None:
    assert parse_run_at(value) == NINE


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "iso_datetime"),
        ("tomorrow", "iso_datetime"),
        ("2031/03/10 10:00", "iso_datetime"),
        ("10.03.2031 10:00", "iso_datetime"),
        ("03/10/2031 10:00 AM", "iso_datetime"),
        ("1900000000", "iso_datetime"),
        ("47917.5", "iso_datetime"),
        ("2031-03-10T10:00:00+1", "iso_datetime"),
        ("2031-03-10T10:00:00 CET", "iso_datetime"),
        ("2031-03-1010:00Z", "iso_datetime"),
        ("２031-03-10T10:00:00Z", "iso_datetime"),
        ("2031-03-10", "missing_time"),
        ("20310310", "missing_time"),
        ("2031-02-30T10:00:00Z", "invalid_time"),
        ("2031-03-10T25:00:00Z", "invalid_time"),
        ("2031-03-10T10:00:60Z", "invalid_time"),
        ("2031-03-10T10:00:00+24:00", "invalid_offset"),
        ("2031-03-10T10:00:00-23:59", "invalid_offset"),
        ("2031-03-10 10:00 -2026", "invalid_offset"),
        ("2031-03-10T10:00:00+01:75", "invalid_offset"),
        ("2031-03-10T10:00:00+0090", "invalid_offset"),
        ("0000-01-01T00:00:00Z", "invalid_time"),
        ("0031-03-10T10:00:00Z", "before_2010"),
        ("1970-01-01T00:00:00Z", "before_2010"),
        ("2009-12-31T23:59:59Z", "before_2010"),
        ("2031-03-10T10:00:00", "timezone_aware"),
        ("9999-12-31T23:59:59-01:00", "iso_datetime"),
    ],
)
def test_anything_else_names_its_fault(value: str, code: str) -> None:
    with pytest.raises(PydanticCustomError) as error:
        parse_run_at(value)
    assert error.value.type == code


@pytest.mark.parametrize(
    "value", ["01.05.2031 09:00", "5/1/2031 9:00 AM", "01-05-31 09:00", " 1. 5. 2031 09:00"]
)
def test_a_date_as_spreadsheets_show_it_is_refused_with_advice(value: str) -> None:
    with pytest.raises(PydanticCustomError) as error:
        parse_run_at(value)
    assert error.value.message() == (
        "must begin with the year, for example 2026-03-06T10:00:00Z. If a spreadsheet changed what "
        "you typed, format the column as text first"
    )


def test_a_time_without_an_offset_is_read_in_the_zone() -> None:
    assert parse_run_at("2031-03-10 10:00", BERLIN) == NINE
    assert parse_run_at("2031-07-10 11:00", BERLIN) == datetime(2031, 7, 10, 9, tzinfo=UTC)


def test_an_offset_is_stronger_than_the_zone() -> None:
    assert parse_run_at("2031-03-10T09:00:00Z", BERLIN) == NINE


def test_a_time_that_clocks_skip_fails() -> None:
    with pytest.raises(PydanticCustomError) as error:
        parse_run_at("2031-03-30T02:30:00", BERLIN)
    assert error.value.type == "timezone_gap"
    assert "Europe/Berlin" in error.value.message()


def test_of_a_time_that_clocks_show_twice_the_first_counts() -> None:
    assert is_ambiguous("2031-10-26T02:30:00", BERLIN)
    assert parse_run_at("2031-10-26T02:30:00", BERLIN) == datetime(2031, 10, 26, 0, 30, tzinfo=UTC)
    assert not is_ambiguous("2031-10-26T02:30:00+01:00", BERLIN)
    assert not is_ambiguous("2031-10-26T04:30:00", BERLIN)
