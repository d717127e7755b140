"""Defines what a client may ask for in one row, or as one pin: every rule, in one model.

Services hand on `PinContent` (shared.contract.events); this model is for the edge, where the text
comes from people.
"""

import hashlib
import re
import reprlib
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated, Any, LiteralString, Self
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import (
    ErrorDetails,
    InitErrorDetails,
    PydanticCustomError,
    PydanticKnownError,
    Url,
)

from shared.contract.errors import ErrorCode
from shared.contract.events import (
    MAX_KEY_LENGTH,
    MAX_REJECTED_VALUE_LENGTH,
    MAX_ROW_FAULTS,
    Fault,
    PinContent,
)

MAX_TITLE_LENGTH = 100
MAX_RELATED_TERMS = 50
MAX_URL_LENGTH = 2048
HEX_DIGITS = 6

TEXTS = (
    "board_id",
    "title",
    "idempotency_key",
    "description",
    "alt_text",
    "link_url",
    "image_url",
    "cover_image_url",
)
STORED_TEXTS = (*TEXTS, "related_terms")
"""Fields that could carry a control character. One look at all is cheaper than a pattern on
each."""
_TEXTS = itemgetter(*TEXTS)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]").search
"""Control characters other than tab and line breaks. Postgres can't store NUL, and JSON writes each
in six bytes: an import's size would not be bounded by its body's
(shared/contract/import_limits.py).
"""
_WEB = re.compile("https?://", re.IGNORECASE).match


def _refuse_blank(value: str) -> str:
    if not value or value.isspace():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def _http_url(value: str) -> str:
    """Accept an http(s) URL and keep it as it was sent."""
    normalize_url(value)
    return value


def normalize_url(url: str) -> str:
    """As browsers would write it: what URLs are compared by.

    Raises ValueError for one that is no http(s) URL.
    """
    if not _WEB(url):
        raise PydanticCustomError("url_scheme", "URL must begin with http:// or https://")
    return str(Url(url))


def _split(value: object) -> object:
    """A list, or comma-separated text. Anything else is left for the list's own check to refuse."""
    terms = value.split(",") if isinstance(value, str) else value
    # Here, not after each has been checked: a hostile list has a fault for every one of a million
    # terms
    if isinstance(terms, list) and len(terms) > MAX_RELATED_TERMS:
        _refuse_too_many(terms)
    return terms


def _refuse_too_many(terms: list[Any]) -> None:
    count = sum(not (isinstance(term, str) and (not term or term.isspace())) for term in terms)
    if count > MAX_RELATED_TERMS:
        raise PydanticKnownError(
            "too_long",
            {"field_type": "List", "max_length": MAX_RELATED_TERMS, "actual_length": count},
        )


def _without_blanks(terms: list[str]) -> list[str] | None:
    # Only now: a fault's index counts the terms as they were sent
    return [term for term in terms if term] or None


def _color(value: str) -> str:
    text = value.removeprefix("#")
    if len(text) != HEX_DIGITS or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise PydanticCustomError("color", "must be a 6-digit hex color (for example #6E7874)")
    return f"#{text.upper()}"


def _iso_instant(value: object) -> object:
    text = value.strip() if isinstance(value, str) else ""
    # pydantic would also take a number, as seconds since 1970: nothing a person means by a date
    if text[4:5] != "-":
        raise PydanticCustomError(
            "iso_datetime",
            "must be an ISO 8601 date and time with an offset (for example 2026-03-06T10:00:00Z)",
        )
    return text


def _utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise PydanticCustomError(
            "timezone_aware", "must include a timezone offset (for example 2026-03-06T10:00:00Z)"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("iso_datetime", "is out of range") from None


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _short_repr() -> reprlib.Repr:
    short = reprlib.Repr()  # Python 3.11 takes no arguments here
    short.maxlevel, short.maxlist, short.maxdict = 3, 10, 10
    short.maxstring = short.maxother = short.maxlong = MAX_REJECTED_VALUE_LENGTH
    return short


def _present(name: str) -> dict[str, Any]:
    """What a schema says of a field that is there and not null."""
    return {"required": [name], "properties": {name: {"type": "string"}}}


_SHORT = _short_repr()

# What validators check beyond pydantic's own constraints, as far as a schema can say it
ANY_TEXT = Field(json_schema_extra={"pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"})
_NOT_BLANK = Field(
    json_schema_extra={
        "minLength": 1,
        "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*[^\s\x00-\x1f][^\x00-\x08\x0b\x0c\x0e-\x1f]*$",
    }
)
_URL = Field(json_schema_extra={"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"})
_COLOR = Field(json_schema_extra={"pattern": r"^\s*#?[0-9A-Fa-f]{6}\s*$"})
_LIST_OR_TEXT: dict[str, Any] = {
    "anyOf": [
        {
            "type": "array",
            "items": {
                "type": "string",
                "maxLength": 100,
                "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$",
            },
            "maxItems": MAX_RELATED_TERMS,
        },
        {
            "type": "string",
            "description": "The same, separated by commas.",
            "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$",
        },
        {"type": "null"},
    ]
}

_EXACTLY_ONE_IMAGE: dict[str, Any] = {"oneOf": [_present("image_url"), _present("asset_id")]}
_AT_MOST_ONE_COVER: dict[str, Any] = {
    "not": {"allOf": [_present("cover_image_url"), _present("cover_image_asset_id")]}
}

Instant = Annotated[datetime, BeforeValidator(_iso_instant), AfterValidator(_utc)]
"""In UTC; sent as ISO 8601 with an offset."""
KeyText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_KEY_LENGTH),
    AfterValidator(_refuse_blank),
    _NOT_BLANK,
]
Identifier = Annotated[UUID, BeforeValidator(_stripped)]
WebUrl = Annotated[
    str, StringConstraints(max_length=MAX_URL_LENGTH), AfterValidator(_http_url), _URL
]
Terms = Annotated[
    list[Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]],
    AfterValidator(_without_blanks),
    BeforeValidator(_split),
]


class PinSubmission(BaseModel):
    """One row of an import, or one pin. Unknown fields are ignored; `StrictPinSubmission` refuses
    them.

    Lengths are characters. Strings are kept as sent, but for surrounding white space in keys and
    ids; `run_at` becomes UTC.
    """

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"allOf": [_EXACTLY_ONE_IMAGE, _AT_MOST_ONE_COVER]}
    )

    account_id: Identifier
    board_id: KeyText
    title: Annotated[
        str,
        StringConstraints(max_length=MAX_TITLE_LENGTH),
        AfterValidator(_refuse_blank),
        _NOT_BLANK,
    ]
    idempotency_key: KeyText
    description: Annotated[str, StringConstraints(max_length=800), ANY_TEXT] | None = None
    alt_text: Annotated[str, StringConstraints(max_length=500), ANY_TEXT] | None = None
    link_url: WebUrl | None = None
    image_url: WebUrl | None = None
    asset_id: Identifier | None = None
    cover_image_url: WebUrl | None = None
    cover_image_asset_id: Identifier | None = None
    related_terms: Annotated[Terms | None, WithJsonSchema(_LIST_OR_TEXT)] = None
    dominant_color: (
        Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_color), _COLOR]
        | None
    ) = None
    run_at: Instant | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _check_as_a_whole(cls, sent: Any, check_fields: ModelWrapValidatorHandler[Self]) -> Self:
        # Around the fields, not after them: pydantic skips what comes after when one field is
        # wrong, and the row's other faults would be told only once that is mended
        try:
            pin = check_fields(sent)
        except ValidationError as error:
            if isinstance(sent, dict) and (faults := _faults_of_the_whole(sent)):
                raise _merged(error, faults) from None
            raise
        # Every valid row pays for this: whether there are such faults is asked in place, which they
        # are only then
        if (
            (pin.image_url is None) is (pin.asset_id is None)
            or (pin.cover_image_url is not None and pin.cover_image_asset_id is not None)
            or _CONTROL("".join(filter(None, _TEXTS(pin.__dict__))))
            or (pin.related_terms is not None and _CONTROL("".join(pin.related_terms)))
        ):
            raise ValidationError.from_exception_data(
                cls.__name__, _faults_of_the_whole(pin.__dict__)
            )
        return pin

    def to_content(self) -> PinContent:
        """Returns what is handed on to other services."""
        return PinContent(**{name: getattr(self, name) for name in PinContent.__struct_fields__})


class StrictPinSubmission(PinSubmission):
    """The same, but a field that no one knows is a fault of the row."""

    model_config = ConfigDict(extra="forbid")


def _faults_of_the_whole(values: dict[str, Any]) -> list[InitErrorDetails]:
    """What no field sees alone, in the values as they were sent or as they became."""
    faults = []
    image = values.get("image_url") is not None
    if image is (values.get("asset_id") is not None):
        wrong = (
            "Provide either image_url or asset_id, not both"
            if image
            else "Either image_url or asset_id must be provided"
        )
        faults.append(_whole("media_source", wrong))
    if values.get("cover_image_url") is not None and values.get("cover_image_asset_id") is not None:
        faults.append(
            _whole(
                "cover_source", "Provide either cover_image_url or cover_image_asset_id, not both"
            )
        )
    control = PydanticCustomError(
        "control_character", "must not contain control characters other than tab and line break"
    )
    named = [name for name in STORED_TEXTS if _has_control(values.get(name))]
    return [
        *faults,
        *(InitErrorDetails(type=control, loc=(name,), input=values[name]) for name in named),
    ]


def _has_control(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and _CONTROL(text) for text in texts)


def _whole(code: LiteralString, message: LiteralString) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(code, message), input=None)


def _merged(error: ValidationError, faults: list[InitErrorDetails]) -> ValidationError:
    told = [
        InitErrorDetails(
            type=PydanticCustomError(details["type"], details["msg"]),
            loc=details["loc"],
            input=details["input"],
        )
        for details in error.errors(include_url=False, include_context=False)[:MAX_ROW_FAULTS]
    ]
    return ValidationError.from_exception_data(error.title, told + faults)


def read_faults(error: ValidationError) -> list[Fault]:
    """Every fault of one row, in the order of the model's fields, then of the whole; at most
    MAX_ROW_FAULTS.
    """
    return [_fault(details) for details in error.errors(include_url=False)[:MAX_ROW_FAULTS]]


def _fault(details: ErrorDetails) -> Fault:
    field = ".".join(str(part) for part in details["loc"])
    value = None if details["type"] == "missing" or not field else make_printable(details["input"])
    message = (
        "No such field" if details["type"] == "extra_forbidden" else make_printable(details["msg"])
    )
    return Fault(
        code=details["type"], field=make_printable(field) or None, message=message, value=value
    )


def make_printable(value: object, most: int = MAX_REJECTED_VALUE_LENGTH) -> str:
    """Cuts what a client sent to repeat it, without what can't be encoded or stored."""
    text = (
        value if isinstance(value, str) else _SHORT.repr(value)
    )  # bounded: a hostile value may be deep or endless
    return text[:most].replace("\0", "\ufffd").encode(errors="replace").decode()


def describe_first_fault(faults: list[Fault]) -> tuple[ErrorCode, str]:
    """The code and message of a row that failed validation: the first fault, named by its field."""
    fault = faults[0]
    return (
        ErrorCode.VALIDATION_ERROR,
        f"{fault.field}: {fault.message}" if fault.field else fault.message,
    )


def compute_fingerprint(content: Any) -> UUID:
    """What tells the same content from another: 128 bits over all fields but the key, URLs compared
    as browsers would.

    `content` is a PinSubmission or a PinContent, already validated.
    """
    urls = (content.link_url, content.image_url, content.cover_image_url)
    return UUID(compute_fingerprint_hex(content, *(url and normalize_url(url) for url in urls)))


def compute_fingerprint_hex(
    content: Any, link_url: str | None, image_url: str | None, cover_image_url: str | None
) -> str:
    """The same as 32 hexadecimal digits, as events carry it: making a UUID and writing it costs as
    much as the digest.

    The URLs are `content`'s, normalised: 0.5 µs each, that whoever has validated them has spent
    already.
    """
    values = (
        content.account_id,
        content.board_id,
        content.title,
        content.description,
        content.alt_text,
        link_url,
        image_url,
        content.asset_id,
        cover_image_url,
        content.cover_image_asset_id,
        content.related_terms,
        content.dominant_color,
        content.run_at,
    )
    return hashlib.blake2b(orjson.dumps(values), digest_size=16).hexdigest()
