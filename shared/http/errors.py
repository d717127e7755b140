"""Answers every error in one format: a code and a message."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from shared.contract.errors import (
    RETRY_AFTER,
    ApiError,
    BrokerUnavailable,
    DatabaseUnavailable,
    ErrorCode,
    ProcessNotConnected,
)
from shared.contract.fault_messages import describe_fault
from shared.contract.pins import make_printable
from shared.http.models import ApiModel

log = structlog.get_logger()

MAX_FAULTS = 20
"""Faults of one request that the response lists."""


class ErrorDetail(ApiModel, extra="allow"):
    """The code and the message of an error. Some codes add fields."""

    code: ErrorCode
    message: str
    """The problem, its place, and the next step to take. For people: the wording may change."""
    help: str
    """The path of the code's section in the reference of errors."""


class ErrorResponse(ApiModel):
    """Every error is answered in this format."""

    detail: ErrorDetail


RETRY_AFTER_HEADER = {
    "description": "Seconds to wait before the next try.",
    "schema": {"type": "integer", "minimum": 1},
}
"""Describes the header for OpenAPI."""
_ERRORS: dict[HTTPStatus, dict[str, Any]] = {
    HTTPStatus.BAD_REQUEST: {
        "description": "The request is malformed HTTP. Check your HTTP client."
    },
    HTTPStatus.UNAUTHORIZED: {
        "description": "The API key is missing, unknown or revoked.",
        "headers": {
            "WWW-Authenticate": {
                "description": "How to authenticate (RFC 9110).",
                "schema": {"type": "string"},
            }
        },
    },
    HTTPStatus.FORBIDDEN: {
        "description": "The API key lacks the scope or the account that the request needs."
    },
    HTTPStatus.NOT_FOUND: {"description": "It does not exist, or it belongs to another workspace."},
    HTTPStatus.REQUEST_TIMEOUT: {
        "description": "The body did not arrive in time. Nothing was done."
    },
    HTTPStatus.CONFLICT: {
        "description": "The state of what exists does not allow the request. Nothing was done."
    },
    HTTPStatus.GONE: {"description": "The file of the import is not stored, or not any more."},
    HTTPStatus.NOT_ACCEPTABLE: {
        "description": "The answer has none of the formats that the header `Accept` allows."
    },
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {
        "description": "The body is too large. `limit_bytes` is the limit. Nothing was done."
    },
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {
        "description": "The `Content-Type` is not the one that the endpoint reads."
    },
    HTTPStatus.UNPROCESSABLE_ENTITY: {
        "description": "A parameter or the body is invalid. `errors` lists the faults, if there "
        "are several. Nothing was done."
    },
    HTTPStatus.TOO_MANY_REQUESTS: {
        "description": "The client's address sent too many wrong API keys. Valid keys still work.",
        "headers": {"Retry-After": RETRY_AFTER_HEADER},
    },
    HTTPStatus.SERVICE_UNAVAILABLE: {
        "description": "A part of Pinflow is down, restarting or too busy. Try again.",
        "headers": {"Retry-After": RETRY_AFTER_HEADER},
    },
}
"""Meaning and headers of each error status, where the endpoint says nothing else."""


def error_responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Describes an endpoint's error responses for OpenAPI, beyond those of all endpoints."""
    return {status: {"model": ErrorResponse, **_ERRORS[status]} for status in statuses}


NOT_FOUND = error_responses(HTTPStatus.NOT_FOUND)
CONFLICT = error_responses(HTTPStatus.CONFLICT)
GONE = error_responses(HTTPStatus.GONE)

ACCESS_ERRORS = error_responses(
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS
)
"""Responses of every endpoint that requires an API key."""

BODY_ERRORS = error_responses(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
"""Responses of every endpoint that reads a body."""

OVERLOADED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.TOO_MANY_REQUESTS: {
        "model": ErrorResponse,
        "description": (
            "A limit is reached: `too_many_unsettled_rows` for the workspace's backlog, "
            "`overloaded` for its lists, waiting imports, concurrent changes or the backlog of all "
            "workspaces, `rate_limited` for Pinterest's limits, `too_many_attempts` for wrong API "
            "keys. `limit` and `current` have the figures, except for the last two. Nothing was "
            "done."
        ),
        "headers": {"Retry-After": RETRY_AFTER_HEADER},
    }
}
"""Response of every endpoint that limits its load."""


def add_error_handlers(api: FastAPI) -> None:
    """Registers handlers for invalid requests and unavailable servers."""
    api.add_exception_handler(ApiError, _api_error)
    api.add_exception_handler(DatabaseUnavailable, _database_unavailable)
    api.add_exception_handler(BrokerUnavailable, _broker_unavailable)
    api.add_exception_handler(RequestValidationError, _validation_error)
    api.add_exception_handler(HTTPException, _http_error)


def build_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status, headers=error.headers)


def build_unavailable_error(code: ErrorCode, message: str) -> ApiError:
    """Builds a 503 that asks the client to try again."""
    return ApiError(code, message, HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY_AFTER)


def build_internal_error(request_id: str) -> JSONResponse:
    """Builds a 500 response without internal details."""
    message = (
        "An internal error occurred. Your request is not the cause. Report the request_id: it "
        "identifies the error in the log."
    )
    return build_response(
        ApiError(
            ErrorCode.INTERNAL_ERROR,
            message,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            request_id=request_id,
        )
    )


async def _api_error(_request: Request, error: Any) -> JSONResponse:
    return build_response(error)


async def _database_unavailable(_request: Request, error: Any) -> JSONResponse:
    log.warning("database_unavailable", error=str(error))
    return build_response(
        build_unavailable_error(
            ErrorCode.DATABASE_UNAVAILABLE, "The database is not available right now. Try again."
        )
    )


async def _broker_unavailable(_request: Request, error: Any) -> JSONResponse:
    log.warning("broker_unavailable", error=str(error))
    problem = (
        "This service is starting or stopping, and is not connected to Kafka."
        if isinstance(error, ProcessNotConnected)
        else "Kafka is not available right now."
    )
    return build_response(
        build_unavailable_error(
            ErrorCode.BROKER_UNAVAILABLE, f"{problem} Nothing was accepted. Try again."
        )
    )


async def _validation_error(_request: Request, error: Any) -> JSONResponse:
    """Answers FastAPI's validation errors.

    `detail` is never a list, because the SDK would lose code and message.
    """
    faults = [
        {
            "field": _name_field(fault["loc"]),
            "code": fault["type"],
            "message": make_printable(describe_fault(fault)),
        }
        for fault in error.errors()[:MAX_FAULTS]
    ]
    in_body = any(fault["loc"][:1] == ("body",) for fault in error.errors())
    if any(fault["code"] == "json_invalid" for fault in faults):
        code = ErrorCode.INVALID_JSON
    else:
        code = ErrorCode.INVALID_PAYLOAD if in_body else ErrorCode.INVALID_PARAMETER
    first = faults[0]
    message = f"{first['field']}: {first['message']}" if first["field"] else str(first["message"])
    return build_response(ApiError(code, message, errors=faults))


def _name_field(location: Sequence[str | int]) -> str | None:
    """Returns the name of the parameter or field at `(part of the request, name, …)`."""
    name = ".".join(map(str, location[1:]))
    return make_printable(name.title() if location[0] == "header" else name) or None


async def _http_error(request: Request, error: Any) -> JSONResponse:
    codes = {
        HTTPStatus.NOT_FOUND: (ErrorCode.NOT_FOUND, "This address does not exist. Check the path."),
        HTTPStatus.METHOD_NOT_ALLOWED: (
            ErrorCode.METHOD_NOT_ALLOWED,
            "This address does not support the method. Use a method from the Allow header.",
        ),
    }
    code, message = codes.get(error.status_code, (ErrorCode.INVALID_PAYLOAD, str(error.detail)))
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(sorted(set(_find_methods(request))))}
    return build_response(ApiError(code, message, HTTPStatus(error.status_code), headers=headers))


def _find_methods(request: Request) -> Iterator[str]:
    """Yields all methods of this address, with HEAD wherever GET is supported.

    Starlette names only the methods of the first matching route, and FastAPI creates a route for
    each method. /v1/pins/batch is a separate address, though /v1/pins/{pin_id} also matches it.
    """
    path = getattr(request.scope.get("route"), "path", None)
    for route in iter_route_contexts(request.app.router.routes):
        if route.path == path:
            yield from route.methods or ()
            if "GET" in (route.methods or ()):
                yield "HEAD"
