"""What the OpenAPI document can't say: which accounts and boards there are, and what stands in a CSV. Loaded by schemathesis itself."""

import csv
import io
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import schemathesis
from hypothesis import strategies as st

ACCOUNT, BOARD = os.environ["HOSTILE_ACCOUNT"], os.environ["HOSTILE_BOARD"]
COLUMNS = ("account_id", "board_id", "title", "idempotency_key", "image_url", "description")
LATER = "2031-05-01T09:00:00Z"
NOWHERE = "https://hooks.invalid/"
"""Resolves to nothing: what a webhook is told must not leave this machine."""


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: dict[str, Any]) -> None:
    """Valid is what names an account and a board that exist, and a time to come: what is well-formed is replaced, what is wrong stays."""
    _make_real(case.body)


def _make_real(value: Any) -> None:
    if isinstance(value, list):
        for one in value:
            _make_real(one)
    elif isinstance(value, dict):
        for name, part in value.items():
            is_well_formed, real = REAL.get(name, (_never, None))
            if is_well_formed(part):
                value[name] = real
            else:
                _make_real(part)


def _never(_value: object) -> bool:
    return False


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _are_uuids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_uuid, value))


def _is_board(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= 255 and "\0" not in value


def _is_instant(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_web_address(value: object) -> bool:
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


REAL: dict[str, tuple[Callable[[object], bool], Any]] = {
    "account_id": (_is_uuid, ACCOUNT),
    "pinterest_account_ids": (_are_uuids, [ACCOUNT]),
    "board_id": (_is_board, BOARD),
    "run_at": (_is_instant, LATER),
    "url": (_is_web_address, NOWHERE),
}


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *rows])
    return text.getvalue().encode()


# Without NUL and surrogates csv can write whatever it is given
_CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60).filter(
    lambda cell: cell.strip()
)
_ROWS = st.lists(st.lists(_CELLS, min_size=len(COLUMNS), max_size=len(COLUMNS)), min_size=1, max_size=5)

schemathesis.openapi.media_type("text/csv", _ROWS.map(_csv))
