"""The time at which a pin is published: its spellings, time zones and impossible values."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from services.publisher.pins.request_bodies import parse_schedule
from shared.contract.errors import ApiError
from shared.contract.pins import PinSubmission, read_faults
from shared.contract.run_at import ZONE, is_ambiguous, parse_run_at

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


NAME_ZONE = "import with the parameter timezone, or pinflow import --timezone"
DAY_OR_MONTH_FIRST = ["01.05.2031 09:00", "5/1/2031 9:00 AM", "01-05-31 09:00", " 1. 5. 2031 09:00"]
SERIAL_NUMBERS = ["46380,375", "46380.375", "46380", " 46380.0 ", 46380.375, 46380]


def find_fault(value: object, zone: ZoneInfo | None) -> tuple[str, str]:
    """Returns code and message of a time in an import, with a time zone or without."""
    with pytest.raises(ValidationError) as error:
        PinSubmission.model_validate({"run_at": value}, context={ZONE: zone})
    (fault,) = (fault for fault in read_faults(error.value) if fault.field == "run_at")
    return fault.code, fault.message


@pytest.mark.parametrize("value", DAY_OR_MONTH_FIRST)
def test_a_date_as_spreadsheets_show_it_is_refused_with_advice(value: str) -> None:
    assert find_fault(value, None) == (
        "iso_datetime",
        (
            "must begin with the year, for example 2026-03-06T10:00:00Z. In a spreadsheet, format "
            f"the cells as yyyy-mm-dd hh:mm, and {NAME_ZONE}"
        ),
    )
    assert find_fault(value, BERLIN) == (
        "iso_datetime",
        (
            "must begin with the year, for example 2026-03-06 10:00. In a spreadsheet, format the "
            "cells as yyyy-mm-dd hh:mm"
        ),
    )


@pytest.mark.parametrize("value", SERIAL_NUMBERS)
def test_a_spreadsheets_serial_number_is_recognized(value: object) -> None:
    message = (
        "is the serial number of a date in a spreadsheet. There, format the cells as yyyy-mm-dd "
        "hh:mm"
    )
    assert find_fault(value, None) == ("iso_datetime", f"{message}, and {NAME_ZONE}")
    assert find_fault(value, BERLIN) == ("iso_datetime", message)


@pytest.mark.parametrize(
    "value", ["1900000000", 1_900_000_000, 10**30, 1e300, "4638", "46380,", True]
)
def test_another_number_is_no_serial_number(value: object) -> None:
    assert find_fault(value, BERLIN)[1] == "must be a date and time, for example 2026-03-06 10:00"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("morgen", "must be a date and time, for example 2026-03-06 10:00"),
        ("2026-12-24", "has no time of day. Write date and time, for example 2026-03-06 10:00"),
        ("0031-03-10 10:00", "is before 2010. Correct the year, for example 2026-03-06 10:00"),
        (
            "2031-03-10 10:00+24:00",
            "has an offset from UTC that no place has. Correct it, or leave it out",
        ),
    ],
)
def test_with_a_time_zone_no_message_demands_an_offset(value: str, message: str) -> None:
    assert find_fault(value, BERLIN)[1] == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "2026-12-24",
            (
                "has no time of day. Write date, time and offset, for example "
                "2026-03-06T10:00:00Z; or date and time, for example 2026-03-06 10:00, and "
                + NAME_ZONE
            ),
        ),
        (
            "2026-12-24 09:00",
            "has no offset from UTC. Add it, for example 2026-03-06T10:00:00Z, or " + NAME_ZONE,
        ),
    ],
)
def test_without_a_time_zone_an_import_is_advised_to_name_one(value: str, message: str) -> None:
    assert find_fault(value, None)[1] == message


@pytest.mark.parametrize(
    "value", [*DAY_OR_MONTH_FIRST, *SERIAL_NUMBERS, "2026-12-24", "2026-12-24 09:00", "morgen"]
)
def test_a_schedule_is_not_advised_what_only_imports_can_do(value: object) -> None:
    with pytest.raises(ApiError) as error:
        parse_schedule({"run_at": value}, "key")
    (fault,) = (f for f in error.value.details["errors"] if f["field"] == "run_at")
    assert "for example 2026-03-06T10:00:00Z" in fault["message"]
    for word in ("timezone", "import", "spreadsheet", "cells"):
        assert word not in fault["message"]


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
