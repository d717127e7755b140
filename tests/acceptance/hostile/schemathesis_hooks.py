"""What the OpenAPI document can't say: which accounts and boards there are, and what stands in a CSV. Loaded by schemathesis itself."""

import csv
import io
import os
from typing import Any
from uuid import UUID

import schemathesis
from hypothesis import strategies as st

ACCOUNT, BOARD = os.environ["HOSTILE_ACCOUNT"], os.environ["HOSTILE_BOARD"]
COLUMNS = ("account_id", "board_id", "title", "idempotency_key", "image_url", "description")


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: dict[str, Any]) -> None:
    """A valid pin is one for an account and a board that exist: ids that are well-formed are replaced, what is wrong stays."""
    body = case.body
    if case.operation.path == "/v1/pins" and isinstance(body, dict) and _is_uuid(body.get("account_id")):
        body["account_id"] = ACCOUNT
        if isinstance(body.get("board_id"), str) and 0 < len(body["board_id"].strip()) <= 255 and "\0" not in body["board_id"]:
            body["board_id"] = BOARD


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


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
