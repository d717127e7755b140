"""Where a list goes on after a page: an opaque text that names the page's last row by what the list
is sorted by.

A row that comes in meanwhile moves no other to another page, as it does where pages are counted by
an offset.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from shared.contract.errors import ApiError, ErrorCode

MOST_CHARACTERS = 2000
"""Of a cursor: twice what the longest title makes of it."""
OPAQUE = r"^[A-Za-z0-9_-]+$"

_REPLACED = {"cursor", "offset"}
_GARBAGE = "is none of ours: take it from the Link header as it is"


class Cursor(NamedTuple):
    order: str
    """The list's name and its order's: pins.title_asc."""
    value: datetime | str | None
    """The last row's, of what the list is sorted by."""
    id: UUID


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    order: str
    value: str | None
    id: UUID


def write_cursor(cursor: Cursor) -> str:
    value = cursor.value.isoformat() if isinstance(cursor.value, datetime) else cursor.value
    return (
        urlsafe_b64encode(msgspec.json.encode(_Document(1, cursor.order, value, cursor.id)))
        .rstrip(b"=")
        .decode()
    )


def read_cursor(text: str, order: str, *, of_time: bool) -> Cursor:
    """A cursor of the list and order `order`, whose values are times or texts.

    Raises ApiError (422) for anything else.
    """
    try:
        document = msgspec.json.decode(
            b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True),
            type=_Document,
        )
        value = _time(document.value) if of_time and document.value is not None else document.value
    except (msgspec.MsgspecError, ValueError, OverflowError):
        raise refused_cursor(_GARBAGE) from None
    if document.order != order:
        raise refused_cursor("belongs to another list or another sort order")
    if not of_time and (value is None or "\0" in str(value)):
        raise refused_cursor(_GARBAGE)
    return Cursor(order, value, document.id)


def refused_cursor(why: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_PARAMETER, f"cursor: {why}.", parameter="cursor")


def next_link(path: str, query: Mapping[str, str], cursor: Cursor) -> str:
    """A Link header's value (RFC 8288): the same question, from the cursor on."""
    kept = {name: value for name, value in query.items() if name not in _REPLACED}
    return f'<{path}?{urlencode({**kept, "cursor": write_cursor(cursor)})}>; rel="next"'


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
