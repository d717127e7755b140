"""Reading Pinterest's answers: what lacks the needed fields is no success."""

from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from shared.pinterest.reading import read_error, read_grant, read_seconds, require_fields

GRANT = {
    "access_token": "pina_x",
    "token_type": "bearer",
    "expires_in": 2_592_000,
    "scope": "boards:read, pins:read boards:write",
    "refresh_token": "pinr_y",
    "refresh_token_expires_in": 5_184_000,
}


def test_a_grant_is_read() -> None:
    grant = read_grant(GRANT)
    assert grant.access_token.get_secret_value() == "pina_x"
    assert grant.refresh_token is not None
    assert grant.refresh_token.get_secret_value() == "pinr_y"
    assert (grant.expires_in, grant.refresh_expires_in) == (2_592_000, 5_184_000)
    assert grant.scopes == ("boards:read", "pins:read", "boards:write")
    assert "pina_x" not in repr(grant)
    assert "pinr_y" not in str(grant)


def test_a_grant_of_an_app_has_no_refresh_token() -> None:
    grant = read_grant({"access_token": "pina_x", "expires_in": 60, "scope": ""})
    assert (grant.refresh_token, grant.refresh_expires_in, grant.scopes) == (None, None, ())


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "a\r\nX-Header: b"},
        {"access_token": "a b"},
        {"access_token": "ä"},
        {"access_token": 5},
    ],
)
def test_an_unusable_grant_is_no_grant(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Pinterest's answer"):
        read_grant({**GRANT, **change})


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"expires_in": None}, {"expires_in": 86_400}),
        ({"expires_in": 0}, {"expires_in": 86_400}),
        ({"expires_in": -1}, {"expires_in": 86_400}),
        ({"expires_in": True}, {"expires_in": 86_400}),
        ({"expires_in": "3600"}, {"expires_in": 3600}),
        ({"expires_in": 10**12}, {"expires_in": 86_400}),
        ({"refresh_token_expires_in": "soon"}, {"refresh_expires_in": None}),
        ({"refresh_token_expires_in": 0}, {"refresh_expires_in": None}),
        ({"scope": None}, {"scopes": ()}),
        ({"scope": ["boards:read"]}, {"scopes": ()}),
        ({"refresh_token": ["x"]}, {"refresh_token": None}),
        ({"refresh_token": ""}, {"refresh_token": None}),
        ({"refresh_token": "a b"}, {"refresh_token": SecretStr("a b")}),
    ],
)
def test_new_tokens_are_kept_even_if_another_field_is_wrong(
    change: dict[str, Any], fields: dict[str, Any]
) -> None:
    grant = read_grant({**GRANT, **change})
    assert grant.access_token.get_secret_value() == "pina_x"
    assert {name: getattr(grant, name) for name in fields} == fields


@pytest.mark.parametrize("document", [None, [], "x", 5, {}, {"code": 2, "message": "no"}])
def test_a_document_without_tokens_is_no_grant(document: Any) -> None:
    with pytest.raises(ValueError, match="access_token"):
        read_grant(document)


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        ("pins/create", None),
        ("pins/create", {}),
        ("pins/create", {"id": None}),
        ("pins/create", {"id": 5}),
        ("pins/create", {"id": ""}),
        ("boards/get", {"code": 40, "message": "Board not found."}),
        ("media/create", {"id": "5"}),
        ("boards/list", {"items": None}),
        ("boards/list", {"items": ["x"]}),
        ("boards/list", {"items": [], "bookmark": 5}),
        ("boards/list", []),
        ("boards/delete", {"code": 1, "message": "no"}),
    ],
)
def test_a_success_without_its_fields_is_none(operation: str, document: Any) -> None:
    with pytest.raises(ValueError, match="Pinterest"):
        require_fields(operation, document)


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        ("pins/create", {"id": "5"}),
        ("media/create", {"media_id": "5"}),
        ("boards/list", {"items": [], "bookmark": None}),
        ("boards/list", {"items": [{"id": "1"}]}),
        ("boards/delete", None),
        ("boards/delete", {}),
    ],
)
def test_a_success_is_returned(operation: str, document: Any) -> None:
    assert require_fields(operation, document) == document


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"code": 40, "message": "Board\\n not found."}', (40, "Board not found.")),
        (b'{"code": 40, "message": "\\u0000"}', (40, "\ufffd")),
        (b'{"code": true, "message": "x"}', (None, "")),
        (b'{"code": "40", "message": "x"}', (None, "")),
        (b"[]", (None, "")),
        (b"<html>", (None, "")),
        (b"", (None, "")),
        (b"[" * 100_000, (None, "")),
    ],
)
def test_an_error_is_read(body: bytes, read: tuple[int | None, str]) -> None:
    assert read_error(body) == read


def test_a_message_is_cut() -> None:
    _, message = read_error(orjson.dumps({"code": 1, "message": "x" * 10_000}))
    assert len(message) == 500


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["5", "9"], 5),
        ([None, "9"], 9),
        (["-5", "9"], 9),
        (["1e3"], None),
        (["٣"], None),
        (["999999999"], 172_800),
        (["9" * 5000], None),
        (["Mon, 30 Nov 2026 15:00:00 GMT"], None),
        ([], None),
    ],
)
def test_the_seconds_to_wait_are_read(values: list[str | None], seconds: int | None) -> None:
    assert read_seconds(values) == seconds
