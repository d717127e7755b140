"""Defines the examples of error answers."""

from http import HTTPStatus
from typing import Any

from deploy.generate.examples.values import PIN
from shared.contract.errors import ApiError, ErrorCode


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
