"""What the OpenAPI document can't say: which accounts and boards there are, and what stands in a
CSV. Loaded by schemathesis itself.
"""

import csv
import io
import os
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import schemathesis
from hypothesis import strategies as st
from schemathesis.generation.meta import TestPhase

ACCOUNT, BOARD, KEY = (os.environ[f"HOSTILE_{name}"] for name in ("ACCOUNT", "BOARD", "KEY"))
COLUMNS = ("account_id", "board_id", "title", "idempotency_key", "image_url", "description")
THINGS = {
    "/v1/pins/{pin_id}": os.environ["HOSTILE_PIN"],
    "/v1/jobs/{job_id}": os.environ["HOSTILE_PIN"],
    "/v1/schedules/{schedule_id}": os.environ["HOSTILE_SCHEDULE"],
    "/v1/pinterest/boards/{board_id}": BOARD,
}
NEEDED = {"/v1/api-keys/{key_id}"}
"""What is not to be changed either, if it is the one in use."""
LATER = "2031-05-01T09:00:00Z"
NOWHERE = "https://hooks.invalid/"
"""Resolves to nothing: what a webhook is told must not leave this machine."""
CURSOR = re.compile(r"[A-Za-z0-9_-]+")


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: dict[str, Any]) -> None:
    """Valid is what names things that exist, and a time to come: what is well-formed is replaced,
    what is wrong stays.
    """
    _make_real(case.body)
    _make_real(case.query)
    if CURSOR.fullmatch(str((case.query or {}).get("cursor", ""))) and not _is_uuid(
        case.query["cursor"]
    ):
        del case.query["cursor"]  # a page that there was
    _settle_keys(case)
    if case.operation.path == "/v1/schedules/{schedule_id}":
        _leave_an_image(case.body)
    if case.method == "DELETE" or case.operation.path in NEEDED:
        _spare_what_is_needed(case)
    elif case.meta.phase.name is not TestPhase.STATEFUL:
        _name_a_real_thing(case)


def _settle_keys(case: Any) -> None:
    """Of two schedules with one key the second must be the first; and the header's must be the
    body's.
    """
    headers, body = case.headers or {}, case.body if isinstance(case.body, dict) else {}
    if "idempotency_key" in body:
        headers.pop("idempotency-key", None)
    elif key := headers.get("idempotency-key"):
        headers["idempotency-key"] = f"{key[:200]}-{uuid4()}".encode().decode(
            "latin-1"
        )  # as it is sent
    key = body.get("idempotency_key")
    if (
        case.operation.path == "/v1/schedules"
        and isinstance(key, str)
        and 0 < len(key.strip()) <= 255
        and "\0" not in key
    ):
        body["idempotency_key"] = str(uuid4())


def _leave_an_image(body: Any) -> None:
    """An update may take a schedule's image away only if it brings another: which of the two it has
    the schema can't know.
    """
    if isinstance(body, dict) and any(
        body.get(name, "") is None for name in ("image_url", "asset_id")
    ):
        body.pop("image_url", None)
        body.pop("asset_id", None)
        body.setdefault("title", "Lamp")


def _spare_what_is_needed(case: Any) -> None:
    """The account, the board and the key that all the others are tried with, which schemathesis has
    seen in answers.
    """
    for name, value in (case.path_parameters or {}).items():
        if value in {ACCOUNT, BOARD, KEY}:
            case.path_parameters[name] = str(uuid4())


def _name_a_real_thing(case: Any) -> None:
    """In every other request, told by the name's length; what was made and deleted on the way is
    the stateful phase's.
    """
    for path, real in THINGS.items():
        name = path.rpartition("{")[2].rstrip("}")
        if case.operation.path.startswith(path) and len(str(case.path_parameters[name])) % 2 == 0:
            case.path_parameters[name] = real


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
_CELLS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
).filter(lambda cell: cell.strip())
_ROWS = st.lists(
    st.lists(_CELLS, min_size=len(COLUMNS), max_size=len(COLUMNS)), min_size=1, max_size=5
)

schemathesis.openapi.media_type("text/csv", _ROWS.map(_csv))
