"""Finds a time zone by its IANA name, such as `Europe/Berlin`.

A zone must be named exactly. These are refused with a suggestion, because a guess could publish at
another hour than the client means:

- a misspelling, another case, or a city alone: `Europe/Berln`, `europe/berlin`, `Berlin`;
- an abbreviation, though IANA keeps some: `EST` has no summer time, `CST` is American and Chinese,
  and many who write `CET` mean `CEST` in summer. UTC and GMT are exact, so they are accepted;
- an offset: `+01:00`, `UTC+1`. It has no summer time either. `Etc/GMT+5` lies west of Greenwich in
  spite of its sign. A time can carry its offset itself.

The zones come from the package tzdata and never from the system, so all replicas use the same ones,
also in an image without zones.
"""

import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.field_names import normalize_name, suggest_field
from shared.contract.pins import make_printable

_DATA = "tzdata"
_MAX_LENGTH = 64
"""Longer than every name. A longer value is not compared with names and offsets: with 30 000 blanks
the comparison with an offset took a minute.
"""

_OFFSET = re.compile(
    r"(?:etc/)?(?:utc|gmt)?\s*[+\N{MINUS SIGN}-]?\s*\d{1,2}(?:[:.]?\d{2})?", re.IGNORECASE
)
"""The sign may be a blank, because `+` in a query is one."""

_NO_ZONES = frozenset({"Factory"})
"""Names in the list that are no zone of any place."""

_REGIONS = {
    ("et", "est", "edt", "est5edt", "eastern"): "America/New_York",
    ("ct", "cdt", "cst6cdt", "central"): "America/Chicago",
    ("mt", "mst", "mdt", "mst7mdt", "mountain"): "America/Denver",
    ("pt", "pdt", "pst", "pst8pdt", "pacific"): "America/Los_Angeles",
    ("akst", "akdt", "alaska", "alaskan"): "America/Anchorage",
    ("hst", "hawaii", "hawaiian"): "Pacific/Honolulu",
    ("adt", "atlantic"): "America/Halifax",
    ("brt",): "America/Sao_Paulo",
    ("cet", "cest", "met", "mest", "mez", "mesz", "weurope", "centraleurope", "centraleuropean"): (
        "Europe/Berlin"
    ),
    ("wet", "west", "westerneuropean"): "Europe/Lisbon",
    ("eet", "eest", "easterneuropean"): "Europe/Helsinki",
    ("romance",): "Europe/Paris",
    ("bst", "british", "uk"): "Europe/London",
    ("msk", "russian"): "Europe/Moscow",
    ("jst",): "Asia/Tokyo",
    ("kst", "korea"): "Asia/Seoul",
    ("hkt",): "Asia/Hong_Kong",
    ("sgt",): "Asia/Singapore",
    ("china",): "Asia/Shanghai",
    ("india",): "Asia/Kolkata",
    ("aest", "aedt", "auseastern"): "Australia/Sydney",
    ("acst", "acdt", "cenaustralia"): "Australia/Adelaide",
    ("awst", "waustralia"): "Australia/Perth",
    ("nzst", "nzdt", "newzealand"): "Pacific/Auckland",
    ("z", "coordinateduniversal"): "UTC",
    ("cst",): "America/Chicago or Asia/Shanghai",
    ("ist",): "Asia/Kolkata, Asia/Jerusalem or Europe/Dublin",
    ("ast",): "America/Halifax or Asia/Riyadh",
}
_SUGGESTIONS = {name: zone for names, zone in _REGIONS.items() for name in names}
"""Zones that abbreviations and regions may mean. The names are in the form of normalize_name."""

_KIND_OF_TIME = re.compile(r"(standard|daylight|summer)?time$")
"""The end of a name such as `Eastern Standard Time`, in the form of normalize_name."""


def load_zone(name: str, *, parameter: str = "timezone") -> ZoneInfo:
    """Returns the zone of that name. Raises ApiError if the name is not exact.

    White space around the name is ignored. `parameter` is the field that the error names.
    """
    trimmed = name.strip()
    if trimmed in _zone_names():
        return _read_zone(trimmed)
    raise ApiError(
        ErrorCode.INVALID_PARAMETER, f"{parameter}: {_describe_fault(trimmed)}", parameter=parameter
    )


@cache
def _zone_names() -> frozenset[str]:
    """Returns all names that are accepted."""
    names = resources.files(_DATA).joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(
        name
        for name in names
        if name not in _NO_ZONES
        and name.casefold() not in _SUGGESTIONS
        and not _OFFSET.fullmatch(name)
    )


@cache
def _read_zone(name: str) -> ZoneInfo:
    """Reads a zone of the list, so the name is never a path out of the package."""
    with resources.files(_DATA).joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def _zones_by_place() -> dict[str, str]:
    """Maps the last part of each zone's name to the zone. Current names win over old ones."""
    table = resources.files(_DATA).joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    current = (line.split("\t")[2] for line in table.splitlines() if not line.startswith("#"))
    names = [*sorted(_zone_names()), *(name for name in current if name in _zone_names())]
    return {name.rsplit("/", 1)[-1]: name for name in names}


def _describe_fault(name: str) -> str:
    """Says what is wrong with a name that is not accepted, and what to write."""
    if not name:
        return "must not be empty. Name a zone such as Europe/Berlin."
    shown = make_printable(name, _MAX_LENGTH)
    is_short = len(name) <= _MAX_LENGTH
    if is_short and _OFFSET.fullmatch(name):
        return (
            f"{shown} is an offset, which has no summer time. Name a zone such as Europe/Berlin, "
            "or write the offset into each time, such as 2026-03-06T10:00:00+01:00."
        )
    suggestion = _suggest_zone(name) if is_short else None
    if suggestion is None:
        return (
            f"there is no time zone {shown}. Use a name of the IANA list, such as Europe/Berlin or "
            "America/New_York."
        )
    return f"{shown} is not the exact name of a time zone. Did you mean {suggestion}?"


@lru_cache(maxsize=1024)
def _suggest_zone(name: str) -> str | None:
    """Returns the zones that a misspelling, a city, an abbreviation or a region may mean."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    place = letters.rsplit("/", 1)[-1]
    region = _KIND_OF_TIME.sub("", normalize_name(letters))
    if normalize_name(letters) in _SUGGESTIONS or region in _SUGGESTIONS:
        return _SUGGESTIONS.get(normalize_name(letters)) or _SUGGESTIONS[region]
    whole = suggest_field(letters, _zone_names())
    if whole is not None:
        return whole
    places = _zones_by_place()
    known = suggest_field(place, places) or suggest_field(region, places)
    return None if known is None else places[known]
