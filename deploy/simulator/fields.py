"""Reads parameters, bodies and bookmarks. Invalid ones are refused with 400, code 1."""

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deploy.simulator.calls import Call
from deploy.simulator.errors import RefusedCall, invalid

SHORT_NUMBER = re.compile(r"[0-9]{1,4}")
BOOKMARK = re.compile(r"after:([0-9]{1,18})")
DIGITS = re.compile(r"[0-9]+")
PAGE_SIZE, MAX_PAGE_SIZE = 25, 250


def require_digits(name: str, value: str) -> str:
    if DIGITS.fullmatch(value) is None:
        raise invalid(f"'{value}' does not match '^\\d+$' for {name}")
    return value


def read_document(call: Call) -> dict[str, Any]:
    """Reads a JSON object."""
    media_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RefusedCall(415, 415, "Content-Type must be application/json")
    try:
        document = json.loads(call.body)
    except ValueError:
        raise invalid("the body is not JSON") from None
    if not isinstance(document, dict):
        raise invalid("the body is not an object")
    return document


def read_text(
    document: Mapping[str, Any],
    name: str,
    *,
    minimum: int = 0,
    maximum: int = 10_000,
    nullable: bool = False,
) -> str | None:
    """Returns None if the field is missing."""
    value = document.get(name)
    if value is None and (nullable or name not in document):
        return None
    if not isinstance(value, str):
        raise invalid(f"{value!r} is not of type 'string' for {name}")
    if not minimum <= len(value) <= maximum:
        raise invalid(f"{name} must have {minimum} to {maximum} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise invalid(f"{name} has half of a surrogate pair")
    return value


def read_flag(document: Mapping[str, Any], name: str) -> bool | None:
    """Returns None if the field is missing."""
    if name not in document:
        return None
    value = document[name]
    if not isinstance(value, bool):
        raise invalid(f"{value!r} is not of type 'boolean' for {name}")
    return value


def read_choice(values: Mapping[str, Any], name: str, choices: Collection[str]) -> str | None:
    """Returns None if the field is missing."""
    if name not in values:
        return None
    value = values[name]
    if not isinstance(value, str) or value not in choices:
        raise invalid(f"{value!r} is not one of {sorted(choices)} for {name}")
    return value


def read_switch(query: Mapping[str, str], name: str) -> bool:
    """Reads a boolean query parameter. A missing one is false."""
    return read_choice(query, name, ("true", "false")) == "true"


def read_page(call: Call) -> tuple[int, int]:
    """Returns the page size, and the number (of a row) after which the page begins."""
    text = call.query.get("page_size", str(PAGE_SIZE))
    if SHORT_NUMBER.fullmatch(text) is None or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise invalid(f"page_size must be a number from 1 to {MAX_PAGE_SIZE}")
    return int(text), read_bookmark(call.query.get("bookmark"))


def read_bookmark(bookmark: str | None) -> int:
    if not bookmark:
        return 0
    try:
        text = base64.urlsafe_b64decode(bookmark.encode()).decode()
    except ValueError:
        text = ""
    match = BOOKMARK.fullmatch(text)
    if match is None:
        raise invalid("the bookmark is invalid")
    return int(match[1])


def make_bookmark(number: int) -> str:
    return base64.urlsafe_b64encode(f"after:{number}".encode()).decode()


def make_page(
    rows: Sequence[Mapping[str, Any]], page_size: int, items: Sequence[Any]
) -> dict[str, Any]:
    """Builds a page of a list from at most page_size + 1 rows, whose `number` orders them."""
    bookmark = make_bookmark(rows[page_size - 1]["number"]) if len(rows) > page_size else None
    return {"items": list(items[:page_size]), "bookmark": bookmark}
