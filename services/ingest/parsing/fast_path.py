"""Rows that are plainly right: nearly all. Validated and written for their events at a third of the
model's price (5 instead of 14 µs).

`PinSubmission` stays the contract. A row that is taken here it takes too, as the same content (a
property test holds the two side by side); what is refused here is for it to judge and to explain,
so this may refuse whatever is not worth a look.
"""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import TypeAdapter

from shared.contract.events import MAX_KEY
from shared.contract.pins import (
    MAX_RELATED_TERMS,
    MAX_URL,
    PinSubmission,
    fingerprint_digits,
    normalised_url,
)

NOT_PLAIN = (ValueError,)
"""What `plain` refuses with: msgspec's and pydantic's errors, and that of a lone surrogate, are
ValueErrors.
"""

_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KEY)]
_Url = Annotated[str, msgspec.Meta(max_length=MAX_URL)]


class _PlainRow(msgspec.Struct, gc=False, omit_defaults=True):
    """The fields of PinSubmission, in its order, by which they are written.

    What it does not know it ignores.
    """

    account_id: UUID
    board_id: _Key
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    idempotency_key: _Key
    description: Annotated[str, msgspec.Meta(max_length=800)] | None = None
    alt_text: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    link_url: _Url | None = None
    image_url: _Url | None = None
    asset_id: UUID | None = None
    cover_image_url: _Url | None = None
    cover_image_asset_id: UUID | None = None
    related_terms: list[Any] | str | None = None
    dominant_color: Any = None
    run_at: Any = None


class _StrictRow(_PlainRow, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """As StrictPinSubmission."""


def _rule(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(PinSubmission.model_fields[name].rebuild_annotation())


_terms, _color, _moment = _rule("related_terms"), _rule("dominant_color"), _rule("run_at")
_write = msgspec.json.Encoder().encode
_CONTROL_ESCAPES = (b"\\u00", b"\\b", b"\\f")
"""JSON's escapes of control characters other than tab and line breaks. An escaped backslash before
such a letter looks the same; then the model decides."""


def plain(row: object, *, strict: bool) -> tuple[bytes, bytes]:
    """The row's content as JSON without what is null, and its fingerprint's digits.

    Raises NOT_PLAIN: then nothing is said of it.
    """
    pin = msgspec.convert(row, _StrictRow if strict else _PlainRow)
    key, board = pin.idempotency_key, pin.board_id
    # strip() gives the very same string where there is nothing to strip
    if key.strip() is not key or board.strip() is not board or pin.title.isspace():
        raise ValueError("white space")
    if (pin.image_url is None) is (pin.asset_id is None) or (
        pin.cover_image_url is not None and pin.cover_image_asset_id is not None
    ):
        raise ValueError("images")
    if pin.related_terms is not None:
        if len(pin.related_terms) > MAX_RELATED_TERMS and not isinstance(pin.related_terms, str):
            raise ValueError("hostile, perhaps, and not to be gone through twice")
        pin.related_terms = _terms.validate_python(pin.related_terms)
    if pin.dominant_color is not None:
        pin.dominant_color = _color.validate_python(pin.dominant_color)
    if pin.run_at is not None:
        pin.run_at = _moment.validate_python(pin.run_at)
    link = None if pin.link_url is None else normalised_url(pin.link_url)
    image = None if pin.image_url is None else normalised_url(pin.image_url)
    cover = None if pin.cover_image_url is None else normalised_url(pin.cover_image_url)
    content = _write(pin)
    if b"\\" in content and any(escape in content for escape in _CONTROL_ESCAPES):
        raise ValueError("perhaps a control character")
    return content, fingerprint_digits(pin, link, image, cover).encode()
