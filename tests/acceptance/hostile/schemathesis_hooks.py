"""Hooks that schemathesis loads: they fill in existing accounts and boards, and build CSV files.

The OpenAPI document cannot name these.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin
from uuid import UUID, uuid4

import httpx
import schemathesis
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import negative_data_rejection

from deploy.generate.files import OPENAPI, ROOT
from shared.contract.pins import PinSubmission
from tests.support.waiting import wait_until

DOCUMENT = json.loads((ROOT / OPENAPI).read_text(encoding="utf-8"))
OPTIONAL_FIELDS = {
    name for name, field in PinSubmission.model_fields.items() if not field.is_required()
}
ACCOUNT, BOARD, KEY = (os.environ[f"HOSTILE_{name}"] for name in ("ACCOUNT", "BOARD", "KEY"))
COLUMNS = ("account_id", "board_id", "title", "idempotency_key", "image_url", "description")
RESOURCES = {
    "/v1/pins/{pin_id}": os.environ["HOSTILE_PIN"],
    "/v1/jobs/{job_id}": os.environ["HOSTILE_PIN"],
    "/v1/schedules/{schedule_id}": os.environ["HOSTILE_SCHEDULE"],
    "/v1/pinterest/boards/{board_id}": BOARD,
}
PROTECTED_PATHS = {"/v1/api-keys/{key_id}"}
"""Paths on which any change could break the run. On all others only a DELETE could."""
LATER = "2031-05-01T09:00:00Z"
UNREACHABLE_URL = "https://hooks.invalid/"
"""A name that never resolves, so no webhook request leaves this machine."""
CURSOR = re.compile(r"[A-Za-z0-9_-]+")


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: dict[str, Any]) -> None:
    """Replaces well-formed ids, URLs and times with existing ids and valid values.

    Otherwise schemathesis's valid requests would name resources that do not exist. Malformed values
    stay.
    """
    _use_existing(case.body)
    _use_existing(case.query)
    if CURSOR.fullmatch(str((case.query or {}).get("cursor", ""))) and not _is_uuid(
        case.query["cursor"]
    ):
        del case.query["cursor"]  # no cursor that schemathesis makes up belongs to a page
    _require_accounts(case)
    _make_keys_unique(case)
    if case.operation.path == "/v1/schedules/{schedule_id}":
        _keep_the_image(case.body)
    if case.method == "DELETE" or case.operation.path in PROTECTED_PATHS:
        _protect_resources_in_use(case)
    elif case.meta.phase.name is not TestPhase.STATEFUL:
        _name_an_existing_resource(case)


def _require_accounts(case: Any) -> None:
    """Removes the parameter `account` if a row has no account_id, which the schema requires."""
    if isinstance(case.body, list) and not all(
        isinstance(row, dict) and row.get("account_id") for row in case.body
    ):
        (case.query or {}).pop("account", None)


@schemathesis.check
def invalid_data_is_rejected_or_reported(context: Any, response: Any, case: Any) -> None:
    """Requires that a request with invalid data is rejected, or that the answer reports it.

    Rows of an import and pins of a batch are judged one by one, and a dry run answers what is
    wrong: they report it. All other requests must be rejected.
    """
    try:
        negative_data_rejection(context, response, case)
    except AcceptedNegativeData:
        is_reported = REPORTS.get(case.operation.path, _never)
        if not is_reported(response) and not _is_valid_without_empty_texts(case):
            raise


def _is_valid_without_empty_texts(case: Any) -> bool:
    """True if a body is valid once empty texts of optional fields are null.

    Such a text means that the field is absent. The schema does not say so, because generated
    clients would get a union of types for each of these fields.
    """
    body = _without_empty_texts(case.body)
    if body == case.body:
        return False
    operation = DOCUMENT["paths"][case.operation.path][case.method.lower()]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=FormatChecker()
    )
    return bool(validator.is_valid(body))


def _without_empty_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty_texts(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: None if part == "" and name in OPTIONAL_FIELDS else _without_empty_texts(part)
        for name, part in value.items()
    }


def _has_failed_rows(response: Any) -> bool:
    """Waits for the end of the import, unless it was a dry run."""
    if "location" not in response.headers:
        return bool(response.json()["failed_rows"])
    jobs: list[dict[str, Any]] = []

    def has_ended() -> bool:
        answer = httpx.get(
            urljoin(response.request.url, response.headers["location"][0]),
            headers={"X-API-Key": response.request.headers["X-API-Key"], "Prefer": "wait=5"},
            timeout=60,
        )
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:  # status has not read it yet
            return False
        jobs.append(answer.raise_for_status().json())
        return jobs[-1]["completed_at"] is not None

    wait_until(has_ended)
    return bool(jobs[-1]["failed_rows"])


REPORTS: dict[str, Callable[[Any], bool]] = {
    "/v1/pins/imports/json": _has_failed_rows,
    "/v1/pins/batch": lambda response: response.json()["failed_count"] > 0,
    "/v1/pins/validate": lambda response: not response.json()["valid"],
    "/v1/schedules/validate": lambda response: not response.json()["valid"],
}
"""Functions that return whether an answer reports the invalid data of its request, by path."""


def _make_keys_unique(case: Any) -> None:
    """Makes idempotency keys unique, and removes the header if the body has a key.

    A second schedule with the same key must equal the first, and so must a pin with
    `on_mismatch=fail`. Both keys of a request must agree. A pin without any key gets one: the
    document can't say that it must be in the header or in the body.
    """
    headers, body = case.headers or {}, case.body if isinstance(case.body, dict) else {}
    if "idempotency_key" in body:
        headers.pop("idempotency-key", None)
    elif key := headers.get("idempotency-key"):
        headers["idempotency-key"] = f"{key[:200]}-{uuid4()}".encode().decode(
            "latin-1"
        )  # the encoding of a sent header
    key = body.get("idempotency_key")
    is_new_pin = (case.method, case.operation.path) == ("POST", "/v1/pins")
    if is_new_pin and "idempotency_key" not in body and "idempotency-key" not in headers:
        headers["idempotency-key"] = str(uuid4())
        case.headers = headers
    if (
        case.operation.path in {"/v1/schedules", "/v1/pins"}
        and isinstance(key, str)
        and 0 < len(key.strip()) <= 255
        and "\0" not in key
    ):
        body["idempotency_key"] = str(uuid4())


def _keep_the_image(body: Any) -> None:
    """Keeps an update from removing a schedule's image without giving another.

    The schema cannot know whether a schedule has a URL or an asset.
    """
    if isinstance(body, dict) and any(
        body.get(name, "") is None for name in ("image_url", "asset_id")
    ):
        body.pop("image_url", None)
        body.pop("asset_id", None)
        body.setdefault("title", "Lamp")


def _protect_resources_in_use(case: Any) -> None:
    """Replaces the ids of the account, board and key that other requests use with unknown ids.

    schemathesis has seen these ids in answers.
    """
    for name, value in (case.path_parameters or {}).items():
        if value in {ACCOUNT, BOARD, KEY}:
            case.path_parameters[name] = str(uuid4())


def _name_an_existing_resource(case: Any) -> None:
    """Names an existing resource if the generated name has an even length.

    The stateful phase names resources that it created itself.
    """
    for path, existing in RESOURCES.items():
        name = path.rpartition("{")[2].rstrip("}")
        if case.operation.path.startswith(path) and len(str(case.path_parameters[name])) % 2 == 0:
            case.path_parameters[name] = existing


def _use_existing(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _use_existing(item)
    elif isinstance(value, dict):
        for name, part in value.items():
            is_well_formed, existing = EXISTING.get(name, (_never, None))
            if is_well_formed(part):
                value[name] = existing
            else:
                _use_existing(part)


def _never(_value: object) -> bool:
    return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


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


EXISTING: dict[str, tuple[Callable[[object], bool], Any]] = {
    "account_id": (_is_uuid, ACCOUNT),
    "pinterest_account_ids": (_are_uuids, [ACCOUNT]),
    "board_id": (_is_board, BOARD),
    "run_at": (_is_instant, LATER),
    "url": (_is_web_address, UNREACHABLE_URL),
    # Query parameters of imports
    "account": (_is_text, ACCOUNT),
    "timezone": (_is_text, "Europe/Berlin"),
    "encoding": (_is_text, "utf-8"),
}


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *rows])
    return text.getvalue().encode()


# csv can write any text without NUL and surrogates
_CELLS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
).filter(lambda cell: cell.strip())
_ROWS = st.lists(
    st.lists(_CELLS, min_size=len(COLUMNS), max_size=len(COLUMNS)), min_size=1, max_size=5
)

schemathesis.openapi.media_type("text/csv", _ROWS.map(_csv))
