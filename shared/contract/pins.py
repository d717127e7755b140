"""Validates one pin: a row of an import or a single pin. All rules are in one model.

Ingest and the pins API validate with this model. Between services a pin travels as `PinContent`
(shared/contract/events.py).
"""

import hashlib
import json
import re
import reprlib
from operator import itemgetter
from typing import Any, LiteralString, Self
from uuid import UUID

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import (
    ErrorDetails,
    InitErrorDetails,
    PydanticCustomError,
)

from shared.contract.errors import ErrorCode
from shared.contract.events import (
    MAX_REJECTED_VALUE_LENGTH,
    MAX_ROW_FAULTS,
    Fault,
    PinContent,
)
from shared.contract.fault_messages import describe_fault
from shared.contract.pin_fields import (
    AltText,
    Color,
    Description,
    Identifier,
    KeyText,
    OptionalTerms,
    Title,
    WebUrl,
)
from shared.contract.run_at import RunAt
from shared.contract.urls import normalize_url

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
"""Fields that can contain a control character.

One search in the joined texts is cheaper than a pattern for each field.
"""
_TEXTS = itemgetter(*TEXTS)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]").search
"""Finds control characters other than tab and line breaks.

Postgres can't store NUL. JSON escapes most control characters with six bytes, more than the maximum
size of an import allows for (shared/contract/import_limits.py).
"""


class _ShortJson(reprlib.Repr):
    """Writes a value of a JSON document as JSON, cut where it is long or deep."""

    def repr_str(self, value: str, _level: int) -> str:
        return json.dumps(value[: self.maxstring], ensure_ascii=False)

    def repr_bool(self, value: bool, _level: int) -> str:
        return "true" if value else "false"

    def repr_NoneType(self, _value: None, _level: int) -> str:  # noqa: N802 - named by reprlib
        return "null"


def _short_json() -> reprlib.Repr:
    short = _ShortJson()  # Python 3.11 takes no arguments here
    short.maxlevel, short.maxlist, short.maxdict = 3, 10, 10
    short.maxstring = short.maxother = short.maxlong = MAX_REJECTED_VALUE_LENGTH
    return short


def _require_values(*names: str) -> dict[str, Any]:
    """Builds the JSON Schema that requires fields with text: present and not null."""
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


_SHORT = _short_json()
_OWN_CODES = frozenset(
    {
        ErrorCode.UNKNOWN_FIELD,
        ErrorCode.RUN_AT_IN_PAST,
        ErrorCode.ACCOUNT_NOT_PERMITTED,
        ErrorCode.ACCOUNT_NOT_FOUND,
        ErrorCode.BOARD_NOT_FOUND,
    }
)
"""The faults whose code is also the code of their row or request."""

# Generators of clients ignore `not`. From `oneOf` they would make types that nobody understands
_ONE_IMAGE_AND_AT_MOST_ONE_COVER: dict[str, Any] = {
    "not": {
        "anyOf": [
            {"properties": {"image_url": {"type": "null"}, "asset_id": {"type": "null"}}},
            _require_values("image_url", "asset_id"),
            _require_values("cover_image_url", "cover_image_asset_id"),
        ]
    }
}


class PinSubmission(BaseModel):
    """One row of an import, or one pin.

    Lengths are in characters. Values lose surrounding white space. A blank text in an optional
    field counts as absent, and blank terms are dropped. A color becomes `#` and upper-case digits.
    `run_at` is converted to UTC.
    """

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra=_ONE_IMAGE_AND_AT_MOST_ONE_COVER,
        use_attribute_docstrings=True,
    )

    account_id: Identifier
    """The Pinterest account that owns the board."""
    board_id: KeyText
    """The board of the pin. Boards of other accounts are refused."""
    title: Title
    """The pin's title: 1 to 100 characters, not blank."""
    idempotency_key: KeyText
    """The key that makes the pin unique in its workspace: 1 to 255 characters. Each key is
    published once, even if it is sent many times."""
    description: Description | None = None
    """The pin's text, at most 800 characters. Null if there is none."""
    alt_text: AltText | None = None
    """The image in words, for people who can't see it: at most 500 characters. Null if there is
    none."""
    link_url: WebUrl | None = None
    """The page to which the pin leads: an http(s) URL of at most 2048 characters. Null if there is
    none."""
    image_url: WebUrl | None = None
    """The image: an http(s) URL of at most 2048 characters. Send either this or `asset_id`."""
    asset_id: Identifier | None = None
    """The image as an uploaded asset. Send either this or `image_url`."""
    cover_image_url: WebUrl | None = None
    """The cover image: an http(s) URL of at most 2048 characters. Null if there is none."""
    cover_image_asset_id: Identifier | None = None
    """The cover image as an uploaded asset. Send at most one of this and `cover_image_url`."""
    related_terms: OptionalTerms = None
    """Search terms that Pinterest may relate to the pin: at most 50, each of at most 100
    characters. A list, or one text with commas."""
    dominant_color: Color | None = None
    """The image's main color: six hexadecimal digits, with or without `#`. Null if unknown."""
    run_at: RunAt | None = None
    """When to publish the pin: ISO 8601 with an offset. Null or past: at once."""

    @model_validator(mode="wrap")
    @classmethod
    def _check_as_a_whole(cls, sent: Any, check_fields: ModelWrapValidatorHandler[Self]) -> Self:
        # A wrapping validator: pydantic skips an "after" validator if a field is wrong, and the
        # client would see these faults only after it had corrected that field
        if isinstance(sent, dict):
            sent = _drop_blank_values(cls, sent)
        try:
            pin = check_fields(sent)
        except ValidationError as error:
            if isinstance(sent, dict) and (faults := _find_cross_field_faults(sent)):
                raise _merge(error, faults) from None
            raise
        # Every valid pin pays for this check, so it is inline. Faults are built only if it fails
        if (
            (pin.image_url is None) is (pin.asset_id is None)
            or (pin.cover_image_url is not None and pin.cover_image_asset_id is not None)
            or _CONTROL("".join(filter(None, _TEXTS(pin.__dict__))))
            or (pin.related_terms is not None and _CONTROL("".join(pin.related_terms)))
        ):
            raise ValidationError.from_exception_data(
                cls.__name__, _find_cross_field_faults(pin.__dict__)
            )
        return pin

    def to_content(self) -> PinContent:
        """Returns the content that other services receive."""
        return PinContent(**{name: getattr(self, name) for name in PinContent.__struct_fields__})


def _drop_blank_values(model: type[BaseModel], sent: dict[str, Any]) -> dict[str, Any]:
    """Drops blank texts of optional fields: a spreadsheet's empty cell is no value."""
    fields = model.model_fields
    return {
        name: value
        for name, value in sent.items()
        if not (
            isinstance(value, str)
            and (not value or value.isspace())
            and name in fields
            and not fields[name].is_required()
        )
    }


def _find_cross_field_faults(values: dict[str, Any]) -> list[InitErrorDetails]:
    """Finds the faults that concern several fields, and control characters.

    `values` are the values as sent or the validated ones.
    """
    faults = []
    has_image_url = values.get("image_url") is not None
    if has_image_url is (values.get("asset_id") is not None):
        message = (
            "Provide either image_url or asset_id, not both"
            if has_image_url
            else "Either image_url or asset_id must be provided"
        )
        faults.append(_row_fault("media_source", message))
    if values.get("cover_image_url") is not None and values.get("cover_image_asset_id") is not None:
        faults.append(
            _row_fault(
                "cover_source", "Provide either cover_image_url or cover_image_asset_id, not both"
            )
        )
    control = PydanticCustomError(
        "control_character", "must not contain control characters other than tab and line break"
    )
    fields = [name for name in STORED_TEXTS if _has_control(values.get(name))]
    return [
        *faults,
        *(InitErrorDetails(type=control, loc=(name,), input=values[name]) for name in fields),
    ]


def _has_control(value: object) -> bool:
    if isinstance(value, str):
        return _CONTROL(value) is not None
    return isinstance(value, list) and any(isinstance(v, str) and _CONTROL(v) for v in value)


def _row_fault(code: LiteralString, message: LiteralString) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(code, message), input=None)


def _merge(error: ValidationError, faults: list[InitErrorDetails]) -> ValidationError:
    merged = [
        InitErrorDetails(
            type=PydanticCustomError(details["type"], describe_fault(details)),
            loc=details["loc"],
            input=details["input"],
        )
        for details in error.errors(include_url=False)[:MAX_ROW_FAULTS]
    ]
    return ValidationError.from_exception_data(error.title, merged + faults)


def read_faults(error: ValidationError) -> list[Fault]:
    """Returns the faults of one row, at most MAX_ROW_FAULTS.

    Faults of single fields come first, in the order of the model. Then come the faults that concern
    several fields, and last the control characters.
    """
    return [_build_fault(details) for details in error.errors(include_url=False)[:MAX_ROW_FAULTS]]


def _build_fault(details: ErrorDetails) -> Fault:
    field = ".".join(str(part) for part in details["loc"])
    sent = None if details["type"] == "missing" or not field else details["input"]
    return Fault(
        code=details["type"],
        field=make_printable(field) or None,
        message=make_printable(describe_fault(details)),
        value=None if sent is None else make_printable(sent),
    )


def make_printable(value: object, max_length: int = MAX_REJECTED_VALUE_LENGTH) -> str:
    """Truncates a client's value and replaces characters that can't be encoded or stored."""
    # Bounded: a hostile value may be nested deeply or be very long
    text = value if isinstance(value, str) else _SHORT.repr(value)
    return text[:max_length].replace("\0", "\ufffd").encode(errors="replace").decode()


def describe_first_fault(faults: list[Fault]) -> tuple[ErrorCode, str]:
    """Returns the code and message of a row that failed validation.

    The message is that of the first fault. The code is that of the first fault if a client may
    decide by it, otherwise `validation_error`.
    """
    fault = faults[0]
    return (
        ErrorCode(fault.code) if fault.code in _OWN_CODES else ErrorCode.VALIDATION_ERROR,
        f"{fault.field}: {fault.message}" if fault.field else fault.message,
    )


def compute_fingerprint(content: Any) -> UUID:
    """Computes the 128-bit hash by which two contents are compared.

    It covers all fields except the idempotency key, with URLs normalized. `content` is a validated
    PinSubmission or a PinContent.
    """
    urls = (content.link_url, content.image_url, content.cover_image_url)
    return UUID(compute_fingerprint_hex(content, *(url and normalize_url(url) for url in urls)))


def compute_fingerprint_hex(
    content: Any, link_url: str | None, image_url: str | None, cover_image_url: str | None
) -> str:
    """Computes the fingerprint as 32 hexadecimal digits, the form in events.

    To build a UUID and format it would cost as much as the digest. The URLs are those of `content`,
    normalized. Normalizing one costs 0.5 µs, and the fast path has already done so to validate it.
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
