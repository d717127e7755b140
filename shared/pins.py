"""What a client may ask for in one row, or as one pin: the rules of docs/api.md, in one model.

Services hand on `PinContent` (shared.events); this model is for the edge, where the text comes from people.
"""

import hashlib
import reprlib
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, Url

from shared.errors import ErrorCode
from shared.events import MAX_REJECTED_VALUE, MAX_ROW_FAULTS, Fault

MAX_RELATED_TERMS = 50
MAX_URL = 2048
HEX_DIGITS = 6


def _refuse_blank(value: str) -> str:
    if not value or value.isspace():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def _http_url(value: str) -> str:
    """Accept an http(s) URL and keep it as it was sent."""
    scheme = value[:8].lower()
    if not scheme.startswith(("http://", "https://")):
        raise PydanticCustomError("url_scheme", "URL must begin with http:// or https://")
    Url(value)
    return value


def _terms(value: object) -> object:
    """A list, or comma-separated text; blank terms don't count. Anything else is left for the list's own check to refuse."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        return value
    cleaned = [term.strip() if isinstance(term, str) else term for term in value]
    return [term for term in cleaned if term != ""] or None


def _color(value: str) -> str:
    text = value.removeprefix("#")
    if len(text) != HEX_DIGITS or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise PydanticCustomError("color", "must be a 6-digit hex color (for example #6E7874)")
    return f"#{text.upper()}"


def _iso_instant(value: object) -> object:
    # pydantic would also take a number, as seconds since 1970: nothing a person means by a date
    if not isinstance(value, str) or value[4:5] != "-":
        raise PydanticCustomError("iso_datetime", "must be an ISO 8601 date and time with an offset (for example 2026-03-06T10:00:00Z)")
    return value.strip()


def _utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise PydanticCustomError("timezone_aware", "must include a timezone offset (for example 2026-03-06T10:00:00Z)")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("iso_datetime", "is out of range") from None


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _short_repr() -> reprlib.Repr:
    short = reprlib.Repr()  # Python 3.11 takes no arguments here
    short.maxlevel, short.maxlist, short.maxdict = 3, 10, 10
    short.maxstring = short.maxother = short.maxlong = MAX_REJECTED_VALUE
    return short


_SHORT = _short_repr()

Key = Annotated[str, StringConstraints(strip_whitespace=True, max_length=255), AfterValidator(_refuse_blank)]
Identifier = Annotated[UUID, BeforeValidator(_stripped)]
WebUrl = Annotated[str, StringConstraints(max_length=MAX_URL), AfterValidator(_http_url)]
Terms = Annotated[
    list[Annotated[str, StringConstraints(max_length=100)]] | None,
    Field(max_length=MAX_RELATED_TERMS),
    BeforeValidator(_terms),
]


class PinSubmission(BaseModel):
    """One row of an import, or one pin. Unknown fields are ignored; `StrictPinSubmission` refuses them.

    Lengths are characters. Strings are kept as sent, but for surrounding white space in keys and ids; `run_at` becomes UTC.
    """

    model_config = ConfigDict(extra="ignore")

    account_id: Identifier
    board_id: Key
    title: Annotated[str, StringConstraints(max_length=100), AfterValidator(_refuse_blank)]
    idempotency_key: Key
    description: Annotated[str, StringConstraints(max_length=800)] | None = None
    alt_text: Annotated[str, StringConstraints(max_length=500)] | None = None
    link_url: WebUrl | None = None
    image_url: WebUrl | None = None
    asset_id: Identifier | None = None
    cover_image_url: WebUrl | None = None
    cover_image_asset_id: Identifier | None = None
    related_terms: Terms = None
    dominant_color: Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_color)] | None = None
    run_at: Annotated[datetime, BeforeValidator(_iso_instant), AfterValidator(_utc)] | None = None

    @model_validator(mode="after")
    def _check_as_a_whole(self) -> "PinSubmission":
        if (self.image_url is None) == (self.asset_id is None):
            wrong = (
                "Either image_url or asset_id must be provided"
                if self.image_url is None
                else "Provide either image_url or asset_id, not both"
            )
            raise PydanticCustomError("media_source", wrong)
        if self.cover_image_url is not None and self.cover_image_asset_id is not None:
            raise PydanticCustomError("cover_source", "Provide either cover_image_url or cover_image_asset_id, not both")
        for name, value in self.__dict__.items():
            # Postgres can't store it; one look here is cheaper than a pattern on each field
            if "\0" in value if type(value) is str else type(value) is list and any("\0" in term for term in value):
                raise PydanticCustomError("nul_character", "must not contain the character NUL", {"field": name})
        return self


class StrictPinSubmission(PinSubmission):
    """The same, but a field that no one knows is a fault of the row."""

    model_config = ConfigDict(extra="forbid")


def faults_of(error: ValidationError) -> list[Fault]:
    """Every fault of one row, in the order of the model's fields, at most MAX_ROW_FAULTS."""
    return [_fault(details) for details in error.errors(include_url=False)[:MAX_ROW_FAULTS]]


def _fault(details: ErrorDetails) -> Fault:
    location = ".".join(str(part) for part in details["loc"])
    field = location or str(details.get("ctx", {}).get("field", ""))
    value = None if details["type"] == "missing" or not location else printable(details["input"])
    return Fault(code=details["type"], field=printable(field) or None, message=printable(details["msg"]), value=value)


def printable(value: object, most: int = MAX_REJECTED_VALUE) -> str:
    """What a client sent, to be repeated to it: cut, and without what can't be encoded or stored."""
    text = value if isinstance(value, str) else _SHORT.repr(value)  # bounded: a hostile value may be deep or endless
    return text[:most].replace("\0", "\ufffd").encode(errors="replace").decode()


def first_fault(faults: list[Fault]) -> tuple[ErrorCode, str]:
    """The code and message of a row that failed validation: the first fault, named by its field."""
    fault = faults[0]
    return ErrorCode.VALIDATION_ERROR, f"{fault.field}: {fault.message}" if fault.field else fault.message


def fingerprint(content: Any) -> UUID:
    """What tells the same content from another: 128 bits over all fields but the key, URLs compared as browsers would.

    `content` is a PinSubmission or a PinContent, already validated.
    """
    values = (
        content.account_id,
        content.board_id,
        content.title,
        content.description,
        content.alt_text,
        _normalised(content.link_url),
        _normalised(content.image_url),
        content.asset_id,
        _normalised(content.cover_image_url),
        content.cover_image_asset_id,
        content.related_terms,
        content.dominant_color,
        content.run_at,
    )
    return UUID(bytes=hashlib.blake2b(orjson.dumps(values), digest_size=16).digest())


def _normalised(url: str | None) -> str | None:
    return None if url is None else str(Url(url))
