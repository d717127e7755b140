"""Examples for the OpenAPI document: a request and a successful response for each operation, and
one example for each error status.

They are in one place, because they all show the same pin, schedule, import and account. A test
validates each against the schema in the code.
"""

from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

from deploy.services import CHECKED_SERVICES
from shared.access.errors import describe_board_failure
from shared.access.model import BoardCheck, Destination
from shared.contract.errors import ApiError, ErrorCode

WORKSPACE = "6f1c2d4e-93a7-4a55-8a0b-5f5f1f0f3c21"
ACCOUNT = "7b0f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01"
BOARD = "1034280089391227812"
OTHER_BOARD = "1034280089391227999"
PIN = "3f0c1b52-8f0e-5c0b-9d2a-7d1c9f6a4e10"
SCHEDULE = "9a4b6f1e-2c7d-5e3f-8b1a-0c5d7e9f2a34"
JOB = "0199c0de-7a51-7c3e-9a5b-2f4d6e8a0b1c"
KEY = "c2a7e1f0-4b8d-4e6a-9f3c-1d5b7a9e0f42"
WEBHOOK = "e5d1c3b7-6a9f-4c2e-8d0b-3f7a1e5c9b26"
DELIVERY = "a8f6e4d2-1b3c-4d5e-9f7a-8b6c4d2e0f19"
EVENT = "evt_4d7c9a1e5b3f5d2c8e6a0f9b7c5d3e18"
NOW, LATER, RUN_AT = "2026-11-28T09:30:00Z", "2026-11-28T09:30:01Z", "2027-03-06T10:00:00Z"


class Example(NamedTuple):
    """The bodies of an operation's successful response and of its request."""

    answer: Any = None
    """None for 204, which has no body."""
    request: Any = None
    """None for an operation without a request body."""


def _replace(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**document, **changes}


_CONTENT = {
    "account_id": ACCOUNT,
    "board_id": BOARD,
    "title": "Floor lamp",
    "description": "Warm light for long evenings",
    "link_url": "https://shop.example/lamps/floor",
    "image_url": "https://cdn.shop.example/lamps/floor.jpg",
}
_PIN_REQUEST = {**_CONTENT, "idempotency_key": "lamp-floor-2026"}
_SCHEDULE_REQUEST = {**_CONTENT, "run_at": RUN_AT}

_PIN = {
    "id": PIN,
    "workspace_id": WORKSPACE,
    "pinterest_account_id": ACCOUNT,
    "status": "published",
    "media_type": "image",
    "title": _CONTENT["title"],
    "description": _CONTENT["description"],
    "related_terms": None,
    "alt_text": None,
    "dominant_color": None,
    "cover_image_url": None,
    "link_url": _CONTENT["link_url"],
    "media_url": _CONTENT["image_url"],
    "image_url": _CONTENT["image_url"],
    "asset_id": None,
    "board_id": BOARD,
    "pinterest_pin_id": None,
    "error_code": None,
    "error_message": None,
    "idempotency_key": _PIN_REQUEST["idempotency_key"],
    "created_at": NOW,
    "updated_at": NOW,
    "published_at": NOW,
    "failed_at": None,
    "removed_from_pinterest_at": None,
}
_NO_BOARD_CODE, _NO_BOARD_MESSAGE = describe_board_failure(
    BoardCheck.NO_BOARD, Destination(UUID(WORKSPACE), UUID(ACCOUNT), BOARD)
)
_NO_BOARD = {"error_code": str(_NO_BOARD_CODE), "error_message": _NO_BOARD_MESSAGE}
_FAILED_PIN = _replace(
    _PIN, status="failed", published_at=None, failed_at=LATER, updated_at=LATER, **_NO_BOARD
)
_JOB = {
    "job_id": PIN,
    "pin_id": PIN,
    "status": "published",
    "submitted_at": NOW,
    "completed_at": NOW,
    "pinterest_pin_id": None,
    "error_code": None,
    "error_message": None,
}
_SCHEDULE = {
    "id": SCHEDULE,
    "workspace_id": WORKSPACE,
    "pinterest_account_id": ACCOUNT,
    "run_at": RUN_AT,
    "status": "scheduled",
    "payload": {**_CONTENT, "idempotency_key": "schedule-9a4b6f1e"},
    "last_error": None,
    "pin_id": None,
    "created_at": NOW,
    "updated_at": NOW,
}
_VALIDATION = {
    "valid": False,
    "dry_run": True,
    "checks": [
        {
            "name": "fields",
            "status": "passed",
            "code": None,
            "message": "All fields are valid.",
            "remediation": None,
            "details": None,
        },
        {
            "name": "board",
            "status": "failed",
            "code": "board_not_found",
            "message": _NO_BOARD["error_message"],
            "remediation": "Use one of the account's boards: GET /v1/pinterest/boards.",
            "details": None,
        },
    ],
    "resolved": _PIN_REQUEST,
    "existing_pin_id": None,
    "headroom": None,
}

_QUEUED_IMPORT: dict[str, Any] = {
    "id": JOB,
    "workspace_id": WORKSPACE,
    "source_type": "json",
    "status": "queued",
    "source_filename": None,
    "total_rows": 2,
    "processed_rows": 0,
    "created_rows": 0,
    "existing_rows": 0,
    "failed_rows": 0,
    "results": [],
    "error_message": None,
    "started_at": None,
    "completed_at": None,
    "created_at": NOW,
    "updated_at": NOW,
    "warnings": [],
    "publishing_now": 2,
    "scheduled_for_later": 0,
}
_ROW = {
    "row_number": 1,
    "status": "created",
    "pin_id": PIN,
    "schedule_id": None,
    "idempotency_key": _PIN_REQUEST["idempotency_key"],
    "error_code": None,
    "error_message": None,
    "errors": [],
    "payload_matches": None,
    "line": None,
    "existing_state": None,
    "differing_fields": None,
}
_FAILED_ROW = _replace(
    _ROW,
    row_number=2,
    status="failed",
    pin_id=None,
    idempotency_key="lamp-desk-2026",
    error_code="board_not_found",
    error_message=f"board_id: no board {OTHER_BOARD} on this account. Use one of its boards.",
)
_COMPLETED_IMPORT = _replace(
    _QUEUED_IMPORT,
    status="completed_with_errors",
    processed_rows=2,
    created_rows=1,
    failed_rows=1,
    started_at=NOW,
    completed_at=LATER,
    updated_at=LATER,
    request_id=None,
    publishing_now=1,
    scheduled_for_later=0,
    error_code=None,
)
_SECOND_ROW = _replace(
    _PIN_REQUEST, title="Desk lamp", idempotency_key="lamp-desk-2026", board_id=OTHER_BOARD
)
_ACCOUNT: dict[str, Any] = {
    "id": ACCOUNT,
    "workspace_id": WORKSPACE,
    "pinterest_user_id": ACCOUNT,
    "display_name": "My shop",
    "username": "my-shop",
    "scopes": "boards:read,pins:read,pins:write",
    "created_at": NOW,
    "updated_at": NOW,
    "revoked_at": None,
    "token_expires_at": None,
    "health_status": "healthy",
    "health_message": None,
    "health_checked_at": None,
    "reconnect_required": False,
    "missing_scopes": [],
}
_BOARD = {"id": BOARD, "name": "Lamps", "description": "Light for every room", "privacy": "PUBLIC"}
_BOARD_REQUEST = {
    "account_id": ACCOUNT,
    "name": "Lamps",
    "description": "Light for every room",
    "privacy": "PUBLIC",
}
_BOARD_ACCESS = {
    "account_id": ACCOUNT,
    "board_id": BOARD,
    "publishable": True,
    "status": "ok",
    "code": None,
    "message": "The account can publish to this board.",
    "remediation": None,
    "checked_at": NOW,
    "source": "store",
    "board": _BOARD,
    "account_health": {
        "health_status": "healthy",
        "health_message": None,
        "reconnect_required": False,
        "missing_scopes": [],
    },
    "retry_after_seconds": None,
}
_METER = {
    "account": {
        "account_id": ACCOUNT,
        "tokens_available": 99500,
        "capacity": 100000,
        "refill_rate": 2150.5,
    },
    "global": {"tokens_available": 987300, "capacity": 1000000, "refill_rate": 2150.5},
}

_KEY = {
    "id": KEY,
    "workspace_id": WORKSPACE,
    "name": "campaign tool",
    "scopes": ["read", "write"],
    "pinterest_account_ids": [ACCOUNT],
    "source": "manual",
    "client_name": None,
    "authorized_by_email": None,
    "last_used_at": None,
    "created_at": NOW,
    "revoked_at": None,
    "prefix": "pf_4Xq9TzL",
}
_CREATED_KEY = {
    "id": KEY,
    "workspace_id": WORKSPACE,
    "name": "campaign tool",
    "api_key": "pf_4Xq9TzL…",
    "scopes": ["read", "write"],
    "pinterest_account_ids": [ACCOUNT],
    "created_at": NOW,
    "prefix": "pf_4Xq9TzL",
}

_WEBHOOK = {
    "id": WEBHOOK,
    "workspace_id": WORKSPACE,
    "url": "https://hooks.shop.example/pinflow",
    "events": ["pin.failed", "import.completed_with_errors"],
    "is_enabled": True,
    "created_at": NOW,
    "updated_at": NOW,
    "disabled_reason": None,
}
_DELIVERY = {
    "id": DELIVERY,
    "webhook_id": WEBHOOK,
    "event_type": "pin.failed",
    "payload": {
        "id": EVENT,
        "type": "pin.failed",
        "event": "pin.failed",
        "created_at": NOW,
        "workspace_id": WORKSPACE,
        "data": {"pin_id": PIN, **_NO_BOARD},
    },
    "attempt_count": 1,
    "last_status_code": 503,
    "last_error": "503 Service Unavailable",
    "next_attempt_at": LATER,
    "created_at": NOW,
    "updated_at": NOW,
    "status": "pending",
    "event_id": EVENT,
}


def _event_example(name: str, created_at: str, data: dict[str, Any]) -> Example:
    return Example(
        request={
            "id": EVENT,
            "type": name,
            "event": name,
            "created_at": created_at,
            "workspace_id": WORKSPACE,
            "data": data,
        }
    )


_PIN_DATA = {
    "pin_id": PIN,
    "account_id": ACCOUNT,
    "board_id": BOARD,
    "idempotency_key": _PIN_REQUEST["idempotency_key"],
    "job_id": JOB,
    "row_number": 1,
}


def _ended_import_example(status: str, **counters: int) -> Example:
    rows = {"created_rows": 0, "existing_rows": 0, "failed_rows": 0, **counters}
    data = {
        "request_id": None,
        "job_id": JOB,
        "status": status,
        "total_rows": sum(rows.values()),
        "processed_rows": sum(rows.values()),
        **rows,
        "error_message": None,
        "completed_at": LATER,
    }
    return _event_example(f"import.{status}", LATER, data)


def _bulk_example(item_id: str) -> Example:
    answer = {
        "succeeded_count": 1,
        "skipped_count": 0,
        "failed_count": 0,
        "results": [
            {"id": item_id, "status": "succeeded", "error_code": None, "error_message": None}
        ],
    }
    return Example(answer, {"ids": [item_id]})


EXAMPLES: dict[str, Example] = {
    "GET /": Example({"service": "pinflow", "version": "0.1.0", "docs": "/docs"}),
    "GET /healthz": Example(
        {"status": "ok", "version": "0.1.0", "environment": "local", "checks": None}
    ),
    "GET /readyz": Example(
        {
            "status": "ok",
            "version": "0.1.0",
            "environment": "local",
            "database": "ok",
            "checks": {
                "runtime": "ok",
                "database": "ok",
                **dict.fromkeys(CHECKED_SERVICES, "ok"),
            },
        }
    ),
    "POST /v1/pins/imports/json": Example(_QUEUED_IMPORT, [_PIN_REQUEST, _SECOND_ROW]),
    "POST /v1/pins/imports/csv": Example(
        _replace(
            _QUEUED_IMPORT,
            source_type="csv",
            source_filename="autumn.csv",
            total_rows=1,
            publishing_now=1,
        ),
    ),
    "GET /v1/pins/imports": Example([_COMPLETED_IMPORT]),
    "GET /v1/pins/imports/{job_id}": Example(
        _replace(_COMPLETED_IMPORT, results=[_ROW, _FAILED_ROW])
    ),
    "GET /v1/pins": Example([_PIN]),
    "POST /v1/pins": Example(
        _replace(_PIN, payload_matches=None, differing_fields=None), _PIN_REQUEST
    ),
    "POST /v1/pins/batch": Example(
        {
            "created_count": 1,
            "existing_count": 0,
            "failed_count": 0,
            "results": [
                {
                    "index": 0,
                    "idempotency_key": _PIN_REQUEST["idempotency_key"],
                    "status": "created",
                    "pin": _PIN,
                    "error": None,
                    "payload_matches": None,
                    "differing_fields": None,
                }
            ],
            "headroom": None,
        },
        {"pins": [_PIN_REQUEST]},
    ),
    "POST /v1/pins/validate": Example(_VALIDATION, _PIN_REQUEST),
    "GET /v1/pins/{pin_id}": Example(_PIN),
    "PATCH /v1/pins/{pin_id}": Example(
        _replace(_FAILED_PIN, title="Reading lamp"), {"title": "Reading lamp"}
    ),
    "DELETE /v1/pins/{pin_id}": Example(
        {
            "id": PIN,
            "deleted": True,
            "removed_from_pinterest": False,
            "pinterest_pin_id": None,
            "reason": (
                "Pinflow has not sent this pin to Pinterest, so there was nothing to remove there."
            ),
        }
    ),
    "POST /v1/pins/{pin_id}/retry": Example(_PIN, {"board_id": BOARD}),
    "POST /v1/pins/bulk-delete": _bulk_example(PIN),
    "POST /v1/pins/bulk-retry": _bulk_example(PIN),
    "GET /v1/jobs/{job_id}": Example(_JOB),
    "GET /v1/schedules": Example([_SCHEDULE]),
    "POST /v1/schedules": Example(_SCHEDULE, _SCHEDULE_REQUEST),
    "POST /v1/schedules/validate": Example(
        _replace(_VALIDATION, resolved=_SCHEDULE_REQUEST), _SCHEDULE_REQUEST
    ),
    "GET /v1/schedules/{schedule_id}": Example(_SCHEDULE),
    "PATCH /v1/schedules/{schedule_id}": Example(_SCHEDULE, {"run_at": RUN_AT}),
    "DELETE /v1/schedules/{schedule_id}": Example(),
    "POST /v1/schedules/{schedule_id}/cancel": Example(_replace(_SCHEDULE, status="canceled")),
    "POST /v1/schedules/{schedule_id}/retry": Example(_SCHEDULE),
    "POST /v1/schedules/bulk-cancel": _bulk_example(SCHEDULE),
    "POST /v1/schedules/bulk-retry": _bulk_example(SCHEDULE),
    "POST /v1/schedules/bulk-delete": _bulk_example(SCHEDULE),
    "GET /v1/pinterest/accounts": Example([_ACCOUNT]),
    "DELETE /v1/pinterest/accounts/{account_id}": Example(),
    "GET /v1/pinterest/boards": Example([_BOARD]),
    "POST /v1/pinterest/boards": Example(_BOARD, _BOARD_REQUEST),
    "PATCH /v1/pinterest/boards/{board_id}": Example(
        _BOARD, {"account_id": ACCOUNT, "name": "Lamps"}
    ),
    "DELETE /v1/pinterest/boards/{board_id}": Example(),
    "GET /v1/pinterest/boards/{board_id}/access": Example(_BOARD_ACCESS),
    "GET /v1/rate-meter": Example(_METER),
    "GET /v1/api-keys": Example([_KEY]),
    "POST /v1/api-keys": Example(
        _CREATED_KEY,
        {"name": "campaign tool", "scopes": ["read", "write"], "pinterest_account_ids": [ACCOUNT]},
    ),
    "PATCH /v1/api-keys/{key_id}": Example(_KEY, {"name": "campaign tool"}),
    "DELETE /v1/api-keys/{key_id}": Example(),
    "GET /v1/webhooks": Example([_WEBHOOK]),
    "POST /v1/webhooks": Example(
        _WEBHOOK,
        {
            "url": _WEBHOOK["url"],
            "secret": "at-least-sixteen-characters",
            "events": _WEBHOOK["events"],
        },  # pragma: allowlist secret
    ),
    "GET /v1/webhooks/{webhook_id}": Example(_WEBHOOK),
    "PATCH /v1/webhooks/{webhook_id}": Example(_WEBHOOK, {"is_enabled": True}),
    "DELETE /v1/webhooks/{webhook_id}": Example(),
    "GET /v1/webhooks/{webhook_id}/deliveries": Example([_DELIVERY]),
    "GET /v1/webhooks/{webhook_id}/deliveries/{delivery_id}": Example(_DELIVERY),
    "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend": Example(_DELIVERY),
    "POST pin.published": _event_example("pin.published", NOW, {**_PIN_DATA, "published_at": NOW}),
    "POST pin.failed": _event_example(
        "pin.failed",
        RUN_AT,
        {**_PIN_DATA, "schedule_id": SCHEDULE, **_NO_BOARD, "failed_at": RUN_AT},
    ),
    "POST import.completed": _ended_import_example("completed", created_rows=1, existing_rows=1),
    "POST import.completed_with_errors": _ended_import_example(
        "completed_with_errors", created_rows=1, failed_rows=1
    ),
    "POST import.failed": _ended_import_example("failed", failed_rows=2),
}
"""The examples of each operation. A key is the method and the path, or a webhook's event."""


def _build_error(code: str, message: str, **details: Any) -> dict[str, Any]:
    error = ApiError(ErrorCode(code), message, **details)
    return error.body()


ERRORS: dict[int, dict[str, Any]] = {
    HTTPStatus.BAD_REQUEST: _build_error(
        "invalid_request", "The request body is malformed. Check your HTTP client."
    ),
    HTTPStatus.UNAUTHORIZED: _build_error(
        "unauthorized", "The API key is unknown or revoked. Use an active key."
    ),
    HTTPStatus.FORBIDDEN: _build_error(
        "insufficient_scope",
        "Your API key lacks the scope write. Use a key that has it.",
        required_scope="write",
    ),
    HTTPStatus.NOT_FOUND: _build_error(
        "not_found", "Pin not found. Check the id and the workspace of your API key."
    ),
    HTTPStatus.REQUEST_TIMEOUT: _build_error(
        "request_timeout",
        "The body did not arrive within 20 seconds. Use a faster connection, or split the body "
        "into several requests.",
    ),
    HTTPStatus.CONFLICT: _build_error(
        "pin_deleted",
        "The pin with this idempotency key was deleted. The key stays taken: use a different one.",
        pin_id=PIN,
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _build_error(
        "payload_too_large",
        "The body is larger than 65536 bytes. Send a smaller one.",
        limit_bytes=65536,
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: _build_error(
        "unsupported_media_type",
        "The content type is text/plain. Send application/json. With curl: -H 'Content-Type: "
        "application/json'",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: _build_error(
        "invalid_parameter",
        "limit: must be at most 200; it is 201",
        errors=[
            {
                "field": "limit",
                "code": "less_than_equal",
                "message": "must be at most 200; it is 201",
            }
        ],
    ),
    HTTPStatus.TOO_MANY_REQUESTS: _build_error(
        "too_many_attempts",
        "Your address sent too many wrong API keys. Try this key again in 12 s. Valid keys "
        "continue to work.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: _build_error(
        "database_unavailable", "The database is not available right now. Try again."
    ),
}
"""One example for each status. Most statuses have several error codes."""


def add_examples(document: dict[str, Any]) -> None:
    """Adds the examples to an OpenAPI document."""
    for path, operations in (*document["paths"].items(), *document["webhooks"].items()):
        for method, operation in operations.items():
            example = EXAMPLES.get(f"{method.upper()} {path}", Example())
            if example.request is not None:
                _set_example(operation["requestBody"], example.request)
            for status, response in operation["responses"].items():
                _set_example(
                    response,
                    example.answer if status < "400" else _error_example(response, status),
                )


def _error_example(response: dict[str, Any], status: str) -> dict[str, Any] | None:
    """Returns an error's example, or None if its body is not an ErrorResponse, as in /readyz."""
    content = response.get("content", {}).get("application/json", {})
    return (
        ERRORS[int(status)]
        if content.get("schema") == {"$ref": "#/components/schemas/ErrorResponse"}
        else None
    )


def _set_example(request_or_response: dict[str, Any], example: Any) -> None:
    for content in request_or_response.get("content", {}).values():
        if example is not None:
            content["example"] = example
