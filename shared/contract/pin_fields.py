"""Defines the types of a pin's fields, with their rules and their JSON Schema."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from shared.contract.events import MAX_KEY_LENGTH
from shared.contract.urls import require_http_url

MAX_TITLE_LENGTH = 100
MAX_RELATED_TERMS = 50
MAX_URL_LENGTH = 2048
HEX_DIGITS = 6


def _refuse_blank(value: str) -> str:
    if not value or value.isspace():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def _split_terms(value: object) -> object:
    """Splits comma-separated text into a list. Other values are returned unchanged."""
    terms = value.split(",") if isinstance(value, str) else value
    # Before each term is checked: a hostile list could have a million terms, each with a fault
    if isinstance(terms, list) and len(terms) > MAX_RELATED_TERMS:
        _reject_too_many_terms(terms)
    return terms


def _reject_too_many_terms(terms: list[Any]) -> None:
    count = sum(not (isinstance(term, str) and (not term or term.isspace())) for term in terms)
    if count > MAX_RELATED_TERMS:
        raise PydanticKnownError(
            "too_long",
            {"field_type": "List", "max_length": MAX_RELATED_TERMS, "actual_length": count},
        )


def _remove_blanks(terms: list[str]) -> list[str] | None:
    # Not earlier: the index in a fault counts all terms that were sent, blank ones too
    return [term for term in terms if term] or None


def _normalize_color(value: str) -> str:
    text = value.removeprefix("#")
    if len(text) != HEX_DIGITS or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise PydanticCustomError("color", "must be a 6-digit hex color (for example #6E7874)")
    return f"#{text.upper()}"


def _require_iso_format(value: object) -> object:
    text = value.strip() if isinstance(value, str) else ""
    # pydantic would also accept a number as seconds since 1970, which no client means
    if text[4:5] != "-":
        raise PydanticCustomError(
            "iso_datetime",
            "must be an ISO 8601 date and time with an offset (for example 2026-03-06T10:00:00Z)",
        )
    return text


def _to_utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise PydanticCustomError(
            "timezone_aware", "must include a timezone offset (for example 2026-03-06T10:00:00Z)"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("iso_datetime", "must be in the years 1 to 9999 in UTC") from None


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


# JSON Schema for the checks of the validators, as far as it can express them
_ALLOWED = r"[^\x00-\x08\x0b\x0c\x0e-\x1f]"
"""Any character but the control characters that a text must not contain."""
_ANY_TEXT = f"^{_ALLOWED}*$"
ANY_TEXT = Field(json_schema_extra={"pattern": _ANY_TEXT})
_NOT_BLANK = Field(
    json_schema_extra={
        "minLength": 1,
        "pattern": rf"^{_ALLOWED}*[^\s\x00-\x1f]{_ALLOWED}*$",
    }
)
_URL = Field(
    json_schema_extra={
        "format": "uri",
        "pattern": r"^\s*([Hh][Tt][Tt][Pp][Ss]?://[^\s/?#\\]\S*\s*)?$",
    }
)
_COLOR = Field(json_schema_extra={"pattern": r"^\s*(#?[0-9A-Fa-f]{6}\s*)?$"})
_LIST_OR_TEXT: dict[str, Any] = {
    "anyOf": [
        {
            "type": "array",
            "items": {
                "type": "string",
                "maxLength": 100,
                "pattern": _ANY_TEXT,
            },
            "maxItems": MAX_RELATED_TERMS,
        },
        {
            "type": "string",
            "description": "The same terms as one text, separated by commas.",
            "pattern": _ANY_TEXT,
        },
        {"type": "null"},
    ]
}

Instant = Annotated[datetime, BeforeValidator(_require_iso_format), AfterValidator(_to_utc)]
"""A time in UTC. Clients send ISO 8601 with an offset."""
KeyText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_KEY_LENGTH),
    AfterValidator(_refuse_blank),
    _NOT_BLANK,
]
Identifier = Annotated[UUID, BeforeValidator(_strip)]
WebUrl = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_URL_LENGTH),
    AfterValidator(require_http_url),
    _URL,
]
Terms = Annotated[
    list[Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]],
    AfterValidator(_remove_blanks),
    BeforeValidator(_split_terms),
]
OptionalTerms = Annotated[Terms | None, WithJsonSchema(_LIST_OR_TEXT)]
Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_TITLE_LENGTH),
    AfterValidator(_refuse_blank),
    _NOT_BLANK,
]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=800), ANY_TEXT]
AltText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), ANY_TEXT]
Color = Annotated[
    str, StringConstraints(strip_whitespace=True), AfterValidator(_normalize_color), _COLOR
]
