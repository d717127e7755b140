"""Cursors: opaque texts that name a page's last row by its sort value and id.

The next page begins after that row. Unlike with an offset, rows that are inserted meanwhile don't
shift pages.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from shared.contract.errors import ApiError, ErrorCode

MAX_CURSOR_CHARACTERS = 2000
"""Twice the length of a cursor with the longest title."""
CURSOR_PATTERN = r"^[A-Za-z0-9_-]+$"

_REPLACED_PARAMETERS = {"cursor", "offset"}
_INVALID = "The cursor is invalid. Use the value from the Link header unchanged."


class Cursor(NamedTuple):
    order: str
    """The list and its sort order, such as pins.title_asc."""
    value: datetime | str | None
    """The last row's value of the sort key."""
    id: UUID


class _CursorDocument(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    order: str
    value: str | None
    id: UUID


def write_cursor(cursor: Cursor) -> str:
    value = cursor.value.isoformat() if isinstance(cursor.value, datetime) else cursor.value
    return (
        urlsafe_b64encode(msgspec.json.encode(_CursorDocument(1, cursor.order, value, cursor.id)))
        .rstrip(b"=")
        .decode()
    )


def read_cursor(text: str, order: str, *, is_time: bool) -> Cursor:
    """Reads a cursor of the list and sort order `order`.

    `is_time`: the sort key's values are times, else texts. Raises ApiError (422) if the text
    is not such a cursor.
    """
    try:
        document = msgspec.json.decode(
            b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True),
            type=_CursorDocument,
        )
        is_timestamp = is_time and document.value is not None
        value = _parse_time(str(document.value)) if is_timestamp else document.value
    except (msgspec.MsgspecError, ValueError, OverflowError):
        raise cursor_error(_INVALID) from None
    if document.order != order:
        raise cursor_error(
            "The cursor belongs to another list or sort order. Use it with the query that returned "
            "it, or leave it out to start at the first page."
        )
    if not is_time and (value is None or "\0" in str(value)):
        raise cursor_error(_INVALID)
    return Cursor(order, value, document.id)


def cursor_error(message: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_PARAMETER, message, parameter="cursor")


def next_link(path: str, query: Mapping[str, str], cursor: Cursor) -> str:
    """Builds a Link header's value (RFC 8288): the same query, with the next page's cursor."""
    kept = {name: value for name, value in query.items() if name not in _REPLACED_PARAMETERS}
    return f'<{path}?{urlencode({**kept, "cursor": write_cursor(cursor)})}>; rel="next"'


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
