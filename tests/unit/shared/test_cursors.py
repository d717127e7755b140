"""Cursors are read as they were written. Anything else is refused."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import pytest

from shared.contract.errors import ApiError, ErrorCode
from shared.http.pagination.cursors import (
    MAX_CURSOR_CHARACTERS,
    Cursor,
    next_link,
    read_cursor,
    write_cursor,
)

ID = UUID(int=7)
NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
DOCUMENT = {"version": 1, "order": "pins.created_at_desc", "value": NOON.isoformat(), "id": str(ID)}


def encode(document: object) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("value", [NOON, None])
def test_a_cursor_with_a_time_is_read_as_it_was_written(value: datetime | None) -> None:
    cursor = Cursor("pins.published_at_desc", value, ID)
    assert read_cursor(write_cursor(cursor), cursor.order, is_time=True) == cursor


@pytest.mark.parametrize(
    "value",
    ["lamp", "", "äöü 🪔 ?&=+/", "x" * 100, "\x01" * 100, "🪔" * 100, "2026-11-23T12:00:00Z"],
)
def test_a_cursor_with_a_text_is_read_as_it_was_written_and_is_short(value: str) -> None:
    cursor = Cursor("pins.title_asc", value, ID)
    written = write_cursor(cursor)
    assert read_cursor(written, cursor.order, is_time=False) == cursor
    assert len(written) <= MAX_CURSOR_CHARACTERS


def test_a_cursor_of_an_earlier_release_can_be_read() -> None:
    """Clients keep cursors, so a changed format needs a new version number."""
    cursor = Cursor("pins.created_at_desc", NOON, ID)
    assert read_cursor(encode(DOCUMENT), cursor.order, is_time=True) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "ä",
        "====",
        "not base64!",
        encode([]),
        encode("x"),
        encode({}),
        encode(DOCUMENT | {"version": 2}),
        encode(DOCUMENT | {"more": 1}),
        encode(DOCUMENT | {"id": "7"}),
        encode(DOCUMENT | {"value": "noon"}),
        encode(DOCUMENT | {"value": 7}),
        encode(DOCUMENT | {"value": "infinity"}),
        encode(DOCUMENT | {"value": "0001-01-01T00:00:00+14:00"}),
        urlsafe_b64encode(b'{"version":1,"order":"\xff"}').decode(),
    ],
)
def test_an_invalid_cursor_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_cursor(text, "pins.created_at_desc", is_time=True)
    assert (refused.value.code, refused.value.status) == (ErrorCode.INVALID_PARAMETER, 422)


@pytest.mark.parametrize("value", [None, "a\0b", "\ud800"])
def test_a_cursor_with_an_impossible_text_is_refused(value: Any) -> None:
    written = encode({**DOCUMENT, "order": "pins.title_asc", "value": value})
    with pytest.raises(ApiError):
        read_cursor(written, "pins.title_asc", is_time=False)


def test_a_cursor_of_another_sort_order_is_refused() -> None:
    written = write_cursor(Cursor("pins.title_asc", "lamp", ID))
    with pytest.raises(ApiError, match="another list or sort order"):
        read_cursor(written, "pins.title_desc", is_time=False)


def test_the_next_link_keeps_the_query_and_replaces_the_cursor() -> None:
    cursor = Cursor("pins.title_asc", "lamp", ID)
    link = next_link(
        "/v1/pins", {"limit": "5", "offset": "10", "q": 'a"b>&c', "cursor": "old"}, cursor
    )
    path, _, rest = link.removeprefix("<").partition("?")
    query, _, parameters = rest.partition(">")
    assert (path, parameters) == ("/v1/pins", '; rel="next"')
    assert parse_qs(query) == {"limit": ["5"], "q": ['a"b>&c'], "cursor": [write_cursor(cursor)]}
