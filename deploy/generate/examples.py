"""Builds examples for the OpenAPI document: a body for each request and response.

An example is built from its schema, with one value for each name of a field. So all examples show
the same pin, schedule, import and account, and a new endpoint needs no example of its own. A test
validates each against its schema.
"""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from deploy.services import CHECKED_SERVICES
from shared.access.errors import describe_board_failure
from shared.access.model import BoardCheck, Destination
from shared.contract.errors import ApiError, ErrorCode

ACCOUNT = "7b0f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01"
BOARD = "1034280089391227812"
OTHER_BOARD = "1034280089391227999"
PIN = "3f0c1b52-8f0e-5c0b-9d2a-7d1c9f6a4e10"
SCHEDULE = "9a4b6f1e-2c7d-5e3f-8b1a-0c5d7e9f2a34"
JOB = "0199c0de-7a51-7c3e-9a5b-2f4d6e8a0b1c"
EVENT = "evt_4d7c9a1e5b3f5d2c8e6a0f9b7c5d3e18"
ATTEMPT = "5b8e2d10-6c3f-4a97-b1d4-8e0f7c2a9d63"
NOW, LATER, RUN_AT = "2026-11-28T09:30:00Z", "2026-11-28T09:30:01Z", "2027-03-06T10:00:00Z"
SOON = "2026-11-28T09:45:00Z"
CONNECTED = "The account is connected to Pinterest."
IMAGE = "https://cdn.shop.example/lamps/floor.jpg"
DESCRIPTION = "Warm light for long evenings"
_NO_BOARD_CODE, _NO_BOARD = describe_board_failure(
    BoardCheck.NO_BOARD, Destination(UUID(int=0), UUID(ACCOUNT), BOARD)
)
NO_BOARD = str(_NO_BOARD_CODE)
CONTENT = {
    "account_id": ACCOUNT,
    "board_id": BOARD,
    "title": "Floor lamp",
    "description": DESCRIPTION,
    "link_url": "https://shop.example/lamps/floor",
    "image_url": IMAGE,
    "idempotency_key": "lamp-floor-2026",
}
FAILED_ROW = {
    "row_number": 2,
    "status": "failed",
    "pin_id": None,
    "idempotency_key": "lamp-desk-2026",
    "error_code": NO_BOARD,
    "error_message": _NO_BOARD,
}

VALUES: dict[str, Any] = {
    **CONTENT,
    "api_key": "pf_4Xq9TzL…",
    "attempt_count": 1,
    "checked_at": NOW,
    "completed_at": LATER,
    "created_at": NOW,
    "display_name": "My shop",
    "docs": "/docs",
    "environment": "local",
    "errors": [],
    "event_id": EVENT,
    "events": ["pin.failed", "import.completed_with_errors"],
    "failed_at": None,
    "id": PIN,
    "ids": [PIN],
    "index": 0,
    "is_enabled": True,
    "job_id": JOB,
    "media_url": IMAGE,
    "missing_scopes": [],
    "pin_id": PIN,
    "pinterest_account_id": ACCOUNT,
    "pinterest_account_ids": [ACCOUNT],
    "pinterest_user_id": ACCOUNT,
    "prefix": "pf_4Xq9TzL",
    "privacy": "PUBLIC",
    "published_at": NOW,
    "row_number": 1,
    "run_at": RUN_AT,
    "scopes": ["read", "write"],
    "secret": "at-least-sixteen-characters",  # pragma: allowlist secret
    "service": "pinflow",
    "submitted_at": NOW,
    "updated_at": NOW,
    "url": "https://hooks.shop.example/pinflow",
    "username": "my-shop",
    "version": "0.1.0",
    "warnings": [],
    "webhook_id": "e5d1c3b7-6a9f-4c2e-8d0b-3f7a1e5c9b26",
    "workspace_id": "6f1c2d4e-93a7-4a55-8a0b-5f5f1f0f3c21",
}
"""The value of a field, by its name. A field that can be null is null if it is not listed."""

MODEL_VALUES: dict[str, dict[str, Any]] = {
    "AccountHealth": {"health_status": "healthy", "reconnect_required": False},
    "AccountResponse": {
        "scopes": "boards:read,boards:write,pins:read,pins:write,user_accounts:read",
        "id": ACCOUNT,
        "pinterest_user_id": "885512345678901234",
        "token_expires_at": "2026-12-28T09:30:00Z",
        "health_status": "healthy",
        "health_checked_at": NOW,
        "reconnect_required": False,
    },
    "ApiKeyCreate": {"name": "campaign tool"},
    "ApiKeyCreateResponse": {"id": "c2a7e1f0-4b8d-4e6a-9f3c-1d5b7a9e0f42", "name": "campaign tool"},
    "ApiKeyResponse": {"id": "c2a7e1f0-4b8d-4e6a-9f3c-1d5b7a9e0f42", "name": "campaign tool"},
    "ApiKeyUpdate": {"name": "campaign tool"},
    "BoardAccessResponse": {"publishable": True, "message": "Pins can be published to the board."},
    "BoardCreate": {"name": "Lamps", "description": "Light for every room"},
    "BoardResponse": {"id": BOARD, "name": "Lamps", "description": "Light for every room"},
    "BoardUpdate": {"name": "Lamps", "description": "Light for every room"},
    "BulkResponse": {"succeeded_count": 1},
    "HealthResponse": {"status": "ok"},
    "ImportAcceptedResponse": {
        "id": JOB,
        "total_rows": 1,
        "completed_at": None,
        "publishing_now": 1,
        "scheduled_for_later": 0,
    },
    "ImportCheckResponse": {
        "total_rows": 2,
        "created_rows": 1,
        "failed_rows": 1,
        "publishing_now": 2,
        "scheduled_for_later": 0,
        "results": [{}, FAILED_ROW],
    },
    "ImportEndedData": {"total_rows": 2, "processed_rows": 2},
    "ImportEndedPayload": {"id": EVENT},
    "ImportJobResponse": {
        "id": JOB,
        "status": "completed_with_errors",
        "total_rows": 2,
        "processed_rows": 2,
        "created_rows": 1,
        "failed_rows": 1,
        "started_at": NOW,
        "publishing_now": 2,
        "scheduled_for_later": 0,
        "results": [{}, FAILED_ROW],
    },
    "ImportCancellationResponse": {
        "id": JOB,
        "status": "completed_with_errors",
        "total_rows": 3,
        "processed_rows": 3,
        "created_rows": 1,
        "failed_rows": 2,
        "canceled_rows": 2,
        "canceled_schedules": [{}],
        "withdrawn_pins": [],
        "left": [],
    },
    "CanceledScheduleResponse": {"schedule_id": SCHEDULE},
    "LeftScheduleResponse": {"schedule_id": SCHEDULE, "reason": "published"},
    "ImportUndoResponse": {
        "undo_id": "b6d0c3f2-7e15-4a8b-9c64-2f0d8e1a5b73",
        "undone_at": LATER,
        "dry_run": False,
        "undone_rows": 1,
        "left_rows": 1,
        "undone": [{}],
        "left": [{}],
    },
    "TimelineEvent": {"event": "accepted"},
    "UndoneRow": {"action": "deleted"},
    "LeftRow": {"row_number": 2, "reason": "changed"},
    "RowTimelineResponse": {
        "status": "created",
        "run_at": None,
        "state": "published",
        "events": [
            {"event": "accepted", "at": NOW, "detail": "Kafka had the whole import."},
            {"event": "settled", "at": LATER, "detail": "created: a pin or a schedule."},
        ],
    },
    "RowCorrection": {"row_number": 3},
    "DeliveryPauseResponse": {
        "code": "rate_limited",
        "message": "Pinterest limits the account's requests for a while. Pinflow continues by "
        "itself.",
        "until": SOON,
    },
    "DeliveryResponse": {
        "queued_count": 180,
        "publishing_count": 1,
        "oldest_queued_at": NOW,
        "estimated_end": RUN_AT,
    },
    "JobStatusResponse": {"job_id": PIN, "status": "published"},
    "OAuthAttemptResponse": {"id": ATTEMPT, "status": "connected", "expires_at": SOON},
    "OAuthCallbackResponse": {"message": CONNECTED},
    "OAuthStartResponse": {
        "authorization_url": "https://www.pinterest.com/oauth/?client_id=1500000&redirect_uri="
        "https%3A%2F%2Fpins.shop.example%2Fv1%2Fpinterest%2Foauth%2Fcallback&response_type=code"
        "&scope=boards%3Aread%2Cpins%3Awrite%2Cuser_accounts%3Aread&state=gAAAAABp…",
        "attempt_id": ATTEMPT,
        "expires_at": SOON,
    },
    "PinBatchResponse": {"created_count": 1},
    "PinFailedData": {
        "schedule_id": SCHEDULE,
        "error_code": NO_BOARD,
        "error_message": _NO_BOARD,
        "failed_at": RUN_AT,
    },
    "PinFailedPayload": {"id": EVENT, "created_at": RUN_AT},
    "PinPublishedPayload": {"id": EVENT},
    "PinResponse": {"status": "published"},
    "PinSubmission": {"run_at": None},
    "PinValidationCheck": {"message": "All fields are valid."},
    "PinValidationResponse": {"valid": True, "resolved": CONTENT},
    "PublishedPinResponse": {"status": "published"},
    "RateMeterNode": {
        "tokens_available": 987_300,
        "capacity": 1_000_000,
        "refill_rate": 2150.5,
    },
    "RateMeterAccount": {
        "tokens_available": 99_500,
        "capacity": 100_000,
        "refill_rate": 2150.5,
    },
    "ReadinessResponse": {
        "status": "ok",
        "database": "ok",
        "checks": {
            "runtime": "ok",
            "database": "ok",
            **dict.fromkeys(CHECKED_SERVICES, "ok"),
        },
    },
    "ScheduleResponse": {"id": SCHEDULE, "pin_id": None, "payload": CONTENT},
    "WebhookDeliveryResponse": {
        "id": "0199c0de-7d10-7f19-9f7a-8b6c4d2e0f19",
        "event_type": "pin.failed",
        "payload": {
            "id": EVENT,
            "type": "pin.failed",
            "event": "pin.failed",
            "created_at": RUN_AT,
            "workspace_id": VALUES["workspace_id"],
            "data": {"pin_id": PIN, "error_code": NO_BOARD, "error_message": _NO_BOARD},
        },
        "last_status_code": 503,
        "last_error": "503 Service Unavailable",
        "next_attempt_at": LATER,
    },
    "WebhookResponse": {"id": "e5d1c3b7-6a9f-4c2e-8d0b-3f7a1e5c9b26"},
}
"""The values of a model that differ from VALUES."""

OPERATION_VALUES: dict[str, dict[str, Any]] = {
    "cancel_schedule": {"status": "canceled"},
    "edit_pin": {"status": "failed", "published_at": None, "failed_at": LATER},
    "retry_import": {
        "status": "queued",
        "total_rows": 1,
        "processed_rows": 0,
        "created_rows": 0,
        "failed_rows": 0,
        "started_at": None,
        "completed_at": None,
        "publishing_now": 1,
        "results": [],
        "parent_id": "0199c0dd-51e2-7b90-8c1f-6a3e5d7b9f02",
        "error_counts": {},
    },
    "import_csv": {"source_type": "csv", "source_filename": "autumn.csv"},
    "import_failed": {
        "type": "import.failed",
        "event": "import.failed",
        "data": {"status": "failed", "failed_rows": 2},
    },
    "import_completed": {"data": {"status": "completed", "created_rows": 2}},
    "import_completed_with_errors": {
        "type": "import.completed_with_errors",
        "event": "import.completed_with_errors",
        "data": {"status": "completed_with_errors", "created_rows": 1, "failed_rows": 1},
    },
    "get_import": {"error_counts": {NO_BOARD: 1}},
    "list_imports": {"results": []},
}
"""The values of an operation's body, or of each item if it is a list."""

EMPTY = {"integer": 0, "null": None}
"""The values of types that need no better example."""
WITHOUT_EXAMPLE = {"multipart/form-data"}
"""Content types without examples: /docs then shows how to send a file."""
TEXTS = {
    "OAuthCallbackPage": f"<!doctype html>…<p>{CONNECTED}</p>…",
    "ResultsAsCsv": (
        "row_number,line,status,pin_id,schedule_id,idempotency_key,error_code,error_message,"
        "payload_matches,existing_state,differing_fields,updated\r\n"
        f"1,2,created,{PIN},,lamp-floor-2026,,,,,,\r\n"
    ),
    "ResultsAsLines": f'{{"row_number":1,"status":"created","pin_id":"{PIN}"}}\n',
    "ResultsFile": (
        "account_id,board_id,title,image_url,idempotency_key,line,status,pin_id,schedule_id,"
        "error_code,error_message\r\n"
        f"{ACCOUNT},{BOARD},Floor lamp,{IMAGE},lamp-floor-2026,2,created,{PIN},,,\r\n"
    ),
}
"""The examples of texts, by the title of their schema."""


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
    HTTPStatus.NOT_ACCEPTABLE: _build_error(
        "not_acceptable",
        "The results have no format that the header Accept allows. Send one of: application/json, "
        "text/csv, application/x-ndjson.",
    ),
    HTTPStatus.GONE: _build_error(
        "upload_expired",
        "The file of this import is not stored any more: uploads are kept for 30 days. Import the "
        "rows from your own copy.",
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
_IN_PROGRESS = _build_error(
    "request_in_progress",
    "A request with this Idempotency-Key is still being processed. Try again in 2 s.",
)
OPERATION_ERRORS: dict[str, dict[int, dict[str, Any]]] = {
    "delete_pin": {
        HTTPStatus.CONFLICT: _build_error(
            "pin_publishing",
            "This pin is being sent to Pinterest. Try again when it is published or failed, which "
            "usually takes seconds.",
            pin_id=PIN,
        )
    },
    "import_csv": {HTTPStatus.CONFLICT: _IN_PROGRESS},
    "import_json": {HTTPStatus.CONFLICT: _IN_PROGRESS},
}
"""The examples of an operation's statuses that differ from ERRORS."""

ERROR_RESPONSE = {"$ref": "#/components/schemas/ErrorResponse"}


def add_examples(document: dict[str, Any]) -> None:
    """Adds the examples to an OpenAPI document.

    Raises ValueError for a field that needs a value in VALUES or MODEL_VALUES.
    """
    builder = ExampleBuilder(document["components"]["schemas"])
    for operations in document["paths"].values():
        for operation in operations.values():
            values = OPERATION_VALUES.get(operation["operationId"], {})
            errors = ERRORS | OPERATION_ERRORS.get(operation["operationId"], {})
            for content in _find_contents(operation.get("requestBody", {})):
                content["example"] = _remove_nulls(builder.build_body(content["schema"], values))
            for status, response in operation["responses"].items():
                for content in _find_contents(response):
                    if content["schema"] == ERROR_RESPONSE:
                        content["example"] = errors[int(status)]
                    elif status < "400":
                        content["example"] = builder.build_body(content["schema"], values)
    for webhook in document["webhooks"].values():
        values = OPERATION_VALUES.get(webhook["post"]["operationId"], {})
        for content in _find_contents(webhook["post"]["requestBody"]):
            content["example"] = builder.build_body(content["schema"], values)


def _find_contents(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = body.get("content", {}).items()
    return [content for kind, content in contents if kind not in WITHOUT_EXAMPLE]


def _remove_nulls(value: Any) -> Any:
    """Removes the fields that are null, which a request leaves out."""
    if isinstance(value, list):
        return [_remove_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _remove_nulls(part) for name, part in value.items() if part is not None}


class ExampleBuilder:
    """Builds the example of a schema from the values of its fields."""

    def __init__(self, schemas: dict[str, dict[str, Any]]) -> None:
        self._schemas = schemas

    def build_body(self, schema: dict[str, Any], values: dict[str, Any]) -> Any:
        """Builds the example of a body. `values` are those that this operation has of its own."""
        built = self._build(schema)
        return built if isinstance(built, str) else _merge(built, values)

    def _build(self, schema: dict[str, Any], model: str = "", field: str = "") -> Any:
        """Builds a value. `field` is its name, and `model` the schema that has the field."""
        if "$ref" in schema:
            model = schema["$ref"].rpartition("/")[2]
            return TEXTS.get(model) or self._build(self._schemas[model], model)
        if "properties" in schema:
            properties = schema["properties"].items()
            return {name: self._build_field(part, model, name) for name, part in properties}
        if "items" in schema:
            items = [self._build(schema["items"], model, field)]
            return items[: schema.get("maxItems")]
        if "anyOf" in schema and "default" not in schema:
            return self._build_union(schema["anyOf"], model, field)
        return _build_value(schema, f"{model}.{field}")

    def _build_union(self, parts: list[dict[str, Any]], model: str, field: str) -> Any:
        """Builds null for a field that can be null, unless it is an object with fields."""
        is_object = "properties" in self._schemas.get(
            parts[0].get("$ref", "").rpartition("/")[2], {}
        )
        is_null = field and {"type": "null"} in parts and not is_object
        return None if is_null else self._build(parts[0], model, field)

    def _build_field(self, schema: dict[str, Any], model: str, field: str) -> Any:
        own = MODEL_VALUES.get(model, {})
        if field in own:
            value = own[field]
            return _merge(self._build(schema, model, field), value) if has_parts(value) else value
        if field in VALUES and schema.get("type") != "null":
            return VALUES[field]
        return self._build(schema, model, field)


def _build_value(schema: dict[str, Any], location: str) -> Any:
    """Builds a value that has no parts."""
    if "enum" in schema:
        return schema["enum"][0]
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema["type"] in EMPTY:
        return EMPTY[schema["type"]]
    raise ValueError(f"{location} needs an example in deploy/generate/examples.py")


def has_parts(value: Any) -> bool:
    """Returns whether a value has the values of a list's objects, to be merged with built ones."""
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _merge(built: Any, values: Any) -> Any:
    """Replaces the fields of an object, or of the objects of a list, that `values` has."""
    if isinstance(built, list) and isinstance(values, dict):
        return [_merge(item, values) for item in built]
    if has_parts(values):
        return [_merge(built[0], item) for item in values]
    if not isinstance(built, dict) or not isinstance(values, dict):
        return values
    return {
        name: _merge(part, values[name]) if name in values else part for name, part in built.items()
    }
