"""Any answer of Pinterest is read, or is no success: nothing else is raised."""

from contextlib import suppress
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from shared.pinterest.failures import Cause
from shared.pinterest.judging import is_answer_lost, judge
from shared.pinterest.reading import (
    ID_FIELDS,
    LISTS,
    read_error,
    read_grant,
    read_seconds,
    require_fields,
)
from tests.property.profiles import examples

GRANT_FIELDS = (
    "access_token",
    "expires_in",
    "scope",
    "refresh_token",
    "refresh_token_expires_in",
    "code",
    "message",
)

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["pina_1", "boards:read"])
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_fields = st.sampled_from([*GRANT_FIELDS, "id", "media_id", "items", "bookmark"])
_documents = st.dictionaries(_fields, _values, max_size=6) | _values


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):  # an integer beyond 64 bits, or a lone surrogate
        return b"?"


@given(document=_documents)
@examples(200)
def test_a_grant_has_usable_tokens(document: Any) -> None:
    with suppress(ValueError):
        grant = read_grant(document)
        token = grant.access_token.get_secret_value()
        assert token.isprintable()
        assert token.isascii()
        assert grant.refresh_token is None or grant.refresh_token.get_secret_value()
        assert grant.expires_in > 0
        assert all(" " not in scope for scope in grant.scopes)


@given(
    operation=st.sampled_from([*ID_FIELDS, *LISTS, "boards/delete", "unknown"]),
    document=_documents,
)
@examples(200)
def test_a_success_has_what_its_caller_needs(operation: str, document: Any) -> None:
    with suppress(ValueError):
        answer = require_fields(operation, document)
        if operation in ID_FIELDS:
            assert isinstance(answer[ID_FIELDS[operation]], str)
        if operation in LISTS:
            assert all(isinstance(item, dict) for item in answer["items"])


@given(body=st.binary(max_size=50) | _documents.map(_dump))
@examples(200)
def test_an_error_is_readable(body: bytes) -> None:
    code, message = read_error(body)
    assert code is None or isinstance(code, int)
    assert "\0" not in message
    message.encode()


@given(status=st.integers(100, 999), code=st.none() | st.integers(), message=st.text(max_size=50))
@examples(200)
def test_every_answer_has_a_meaning(status: int, code: int | None, message: str) -> None:
    if is_answer_lost(status, code):
        assert status not in range(400, 500) or status == 408 or code == 2787
    else:
        assert judge(status, code, message) in Cause


@given(values=st.lists(st.none() | st.text(max_size=10) | st.integers().map(str), max_size=3))
@examples(200)
def test_a_wait_is_bounded(values: list[str | None]) -> None:
    seconds = read_seconds(values)
    assert seconds is None or 0 <= seconds <= 2 * 86_400
