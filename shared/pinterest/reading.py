"""Reads Pinterest's answers. Raises ValueError if one lacks what its description requires.

A success without that is no success: the caller does not know what Pinterest did. No I/O.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import orjson
from pydantic import SecretStr

from shared.contract.pins import make_printable
from shared.pinterest.model import RateLimits, TokenGrant

MAX_MESSAGE_LENGTH = 500
MAX_SECONDS = 10 * 365 * 86_400
"""Maximum of a lifetime in an answer: a time that far ahead can be stored in Postgres."""
UNKNOWN_LIFETIME_SECONDS = 86_400
"""Assumed of an access token whose lifetime can't be read. Too short is harmless: it is refreshed
earlier."""
MAX_RETRY_SECONDS = 2 * 86_400
ID_FIELDS = {
    "pins/create": "id",
    "pins/get": "id",
    "pins/update": "id",
    "boards/create": "id",
    "boards/get": "id",
    "boards/update": "id",
    "board_sections/create": "id",
    "media/create": "media_id",
    "media/get": "media_id",
    "user_account/get": "id",
}
"""The field without which the answer of an operation is no success."""
LISTS = ("boards/list", "boards/list_pins", "board_sections/list", "pins/list", "media/list")
TOKEN = re.compile(r"[!-~]+")
"""Printable ASCII: anything else could not be sent as a header."""


def read_error(body: bytes) -> tuple[int | None, str]:
    """Returns an error's code and message. Without Pinterest's format: None and an empty text."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, ""
    if not is_error(document):
        return None, ""
    message = " ".join(make_printable(document["message"], MAX_MESSAGE_LENGTH).split())
    return document["code"], message


def is_error(document: Any) -> bool:
    """Returns whether a document has the format of Pinterest's errors."""
    return (
        isinstance(document, dict)
        and _is_integer(document.get("code"))
        and isinstance(document.get("message"), str)
    )


def require_fields(operation: str, document: Any) -> Any:
    """Returns the answer of an operation if it has what its caller relies on."""
    if (field := ID_FIELDS.get(operation)) is not None:
        value = document.get(field) if isinstance(document, dict) else None
        if not isinstance(value, str) or not value:
            raise ValueError(f"Pinterest's answer has no {field}.")
    elif operation in LISTS:
        items = document.get("items") if isinstance(document, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError("Pinterest's answer has no items.")
        if not isinstance(document.get("bookmark"), str | None):
            raise ValueError("The bookmark in Pinterest's answer is not a text.")
    elif is_error(document):
        raise ValueError("Pinterest answered an error with the status of a success.")
    return document


def read_grant(document: Any) -> TokenGrant:
    """Reads the answer of the token endpoint. Only its access token must be readable.

    Pinterest may have ended the old tokens with this answer. To drop the new ones because of
    another field would lose the account.
    """
    if not isinstance(document, dict):
        raise ValueError("Pinterest's answer has no access_token.")  # noqa: TRY004
    access_token, refresh_token = document.get("access_token"), document.get("refresh_token")
    if not isinstance(access_token, str) or not TOKEN.fullmatch(access_token):
        raise ValueError("Pinterest's answer has no access_token.")
    scope = document.get("scope")
    return TokenGrant(
        access_token=SecretStr(access_token),
        expires_in=_read_lifetime(document, "expires_in") or UNKNOWN_LIFETIME_SECONDS,
        scopes=tuple(re.findall(r"[\w:]+", scope)) if isinstance(scope, str) else (),
        refresh_token=(
            SecretStr(refresh_token) if isinstance(refresh_token, str) and refresh_token else None
        ),
        refresh_expires_in=_read_lifetime(document, "refresh_token_expires_in"),
    )


def read_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """Returns Pinterest's count of requests. None: the answer has none.

    The names of headers are in lower case. The reset is a number of seconds, not a time.
    """
    remaining = headers.get("x-ratelimit-remaining", "")
    if not re.fullmatch(r"\d{1,9}", remaining, re.ASCII):
        return None
    return RateLimits(int(remaining), read_seconds([headers.get("x-ratelimit-reset")]))


def read_seconds(values: Iterable[str | None]) -> int | None:
    """Returns the first value that is a number of seconds to wait."""
    for value in values:
        if value is not None and re.fullmatch(r"\d{1,9}", value, re.ASCII):
            return min(int(value), MAX_RETRY_SECONDS)
    return None


def _read_lifetime(document: Mapping[str, Any], name: str) -> int | None:
    """Returns a number of seconds. None: it is absent, or can't be true."""
    value = document.get(name)
    if isinstance(value, str) and re.fullmatch(r"\d{1,10}", value, re.ASCII):
        value = int(value)
    return value if _is_integer(value) and 0 < value <= MAX_SECONDS else None


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
