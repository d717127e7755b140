"""The names of time zones."""

import zoneinfo
from datetime import datetime, timedelta

import pytest

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.time_zones import load_zone


def refuse(name: str) -> str:
    with pytest.raises(ApiError) as refused:
        load_zone(name)
    assert refused.value.code == ErrorCode.INVALID_PARAMETER
    assert refused.value.details == {"parameter": "timezone"}
    assert len(refused.value.message) < 300
    assert refused.value.message.startswith("timezone: ")
    return refused.value.message


@pytest.mark.parametrize(
    ("name", "offset_in_july"),
    [
        ("Europe/Berlin", 2),
        ("America/New_York", -4),
        ("America/Argentina/Buenos_Aires", -3),
        ("US/Eastern", -4),
        ("Asia/Calcutta", 5.5),
        ("Japan", 9),
        ("UTC", 0),
        ("GMT", 0),
        ("Etc/UTC", 0),
        (" Europe/Berlin\t", 2),
    ],
)
def test_a_zone_is_loaded_by_its_exact_name(name: str, offset_in_july: float) -> None:
    zone = load_zone(name)

    assert datetime(2027, 7, 1, tzinfo=zone).utcoffset() == timedelta(hours=offset_in_july)
    assert zone.key == name.strip()
    assert load_zone(name) is zone


def test_every_zone_of_a_place_is_loaded() -> None:
    places = [name for name in zoneinfo.available_timezones() if "/" in name]

    loaded = {load_zone(name).key for name in places if not name.startswith("Etc/")}

    assert len(loaded) > 400


def test_zones_come_from_the_package_and_not_from_the_system() -> None:
    path = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=())
    try:
        assert load_zone("Pacific/Chatham").key == "Pacific/Chatham"
    finally:
        zoneinfo.reset_tzpath(to=path)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("EUROPE/BERLIN", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Europe\\Berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
        ("America/New-York", "America/New_York"),
        ("utc", "UTC"),
        ("Z", "UTC"),
        ("Berlin", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("Berln", "Europe/Berlin"),
        ("Asia/Berlin", "Europe/Berlin"),
        ("right/Europe/Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("Buenos Aires", "America/Argentina/Buenos_Aires"),
        ("São Paulo", "America/Sao_Paulo"),
        ("Zürich", "Europe/Zurich"),
        ("Tokyo Standard Time", "Asia/Tokyo"),
        ("Eastern Standard Time", "America/New_York"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("EST", "America/New_York"),
        ("est", "America/New_York"),
        ("PST", "America/Los_Angeles"),
        ("PST8PDT", "America/Los_Angeles"),
        ("CET", "Europe/Berlin"),
        ("CEST", "Europe/Berlin"),
        ("MST", "America/Denver"),
        ("HST", "Pacific/Honolulu"),
        ("CST", "America/Chicago or Asia/Shanghai"),
    ],
)
def test_a_name_that_is_nearly_a_zone_is_refused_with_a_suggestion(
    name: str, suggestion: str
) -> None:
    assert refuse(name) == (
        f"timezone: {name} is not the exact name of a time zone. Did you mean {suggestion}?"
    )


@pytest.mark.parametrize(
    "name",
    [
        "+01:00",
        " 01:00",
        "-0500",
        "+1",
        "\N{MINUS SIGN}05:00",
        "UTC+1",
        "utc+05:30",
        "GMT-5",
        "GMT0",
        "Etc/GMT+5",
        "Etc/GMT-14",
        "Etc/GMT 5",
    ],
)
def test_an_offset_is_refused(name: str) -> None:
    assert f"{name.strip()} is an offset, which has no summer time" in refuse(name)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "../tzdata/zones",
        "Europe/../Europe/Rome",
        "/etc/passwd",
        "/usr/share/zoneinfo/Mars/Phobos",
        "C:\\Windows",
        "localtime",
        "posixrules",
        "Factory",
        "zones",
        "zone.tab",
        "Europe",
        "Europe/",
        "__init__.py",
        "\0",
        "Mars/Phobos\0",
        "\ud800",
        "x" * 100_000,
        "../" * 100_000,
        "Nowhere",
        ":" * 40,
        "ⅷ",
    ],
)
def test_no_other_name_is_opened(name: str) -> None:
    message = refuse(name)

    assert "there is no time zone" in message or "is not the exact name" in message
    message.encode()
    assert "\0" not in message


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_an_empty_name_is_refused(name: str) -> None:
    assert refuse(name) == "timezone: must not be empty. Name a zone such as Europe/Berlin."


def test_the_error_names_the_parameter() -> None:
    with pytest.raises(ApiError) as refused:
        load_zone("Berlin", parameter="time_zone")

    assert refused.value.details == {"parameter": "time_zone"}
    assert refused.value.message.startswith("time_zone: ")
