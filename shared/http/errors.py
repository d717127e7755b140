"""Answers errors in one shape: a code and a sentence, whatever went wrong."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shared.contract.errors import (
    RETRY_AFTER,
    ApiError,
    BrokerUnavailable,
    DatabaseUnavailable,
    ErrorCode,
)

log = structlog.get_logger()

MAX_FAULTS = 20
"""The faults of one request that are told."""


class ErrorDetail(BaseModel, extra="allow"):
    """Names a code and says what is wrong; some codes add fields."""

    code: ErrorCode
    message: str


class ErrorResponse(BaseModel):
    detail: ErrorDetail


def error_responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Describes, for OpenAPI, the errors that an endpoint answers beside those of all endpoints."""
    return {status: {"model": ErrorResponse} for status in statuses}


NOT_FOUND = error_responses(HTTPStatus.NOT_FOUND)
CONFLICT = error_responses(HTTPStatus.CONFLICT)

ACCESS_ERRORS = error_responses(
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS
)
"""Of every endpoint that wants a key."""

BODY_ERRORS = error_responses(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
"""Of every endpoint that reads a body."""

_PAUSE = {
    "description": "Seconds after which to try again.",
    "schema": {"type": "integer", "minimum": 1},
}
OVERLOADED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.TOO_MANY_REQUESTS: {
        "model": ErrorResponse,
        "description": (
            "Too much is waiting: of this workspace (`too_many_unsettled_rows`; its lists: "
            "`overloaded`), or of "
            "all (`overloaded`); `limit` and `current` have the figures. Or too many wrong keys "
            "(`too_many_attempts`). Nothing was done."
        ),
        "headers": {"Retry-After": _PAUSE},
    }
}
"""Of every endpoint that refuses what it has no room for."""


def add_error_handlers(api: FastAPI) -> None:
    """Answers every exception that is a request's fault, or a server's that is away."""
    api.add_exception_handler(ApiError, _refused)
    api.add_exception_handler(DatabaseUnavailable, _database_unavailable)
    api.add_exception_handler(BrokerUnavailable, _broker_unavailable)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http_error)


def answer(refusal: ApiError) -> JSONResponse:
    """Builds the response."""
    return JSONResponse(refusal.body(), refusal.status, headers=refusal.headers)


def unavailable(code: ErrorCode, message: str) -> ApiError:
    """Builds a 503 that asks the client to try again."""
    return ApiError(code, message, HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY_AFTER)


def internal_error(request_id: str) -> JSONResponse:
    """Builds a 500 that tells nothing of the inside."""
    message = (
        "Something broke on our side. Nothing of it is your request's fault; the request_id finds "
        "it in the log."
    )
    return answer(
        ApiError(
            ErrorCode.INTERNAL_ERROR,
            message,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            request_id=request_id,
        )
    )


async def _refused(_request: Request, error: Any) -> JSONResponse:
    return answer(error)


async def _database_unavailable(_request: Request, error: Any) -> JSONResponse:
    log.warning("database_unavailable", error=str(error))
    return answer(
        unavailable(
            ErrorCode.DATABASE_UNAVAILABLE, "The database is not available right now; try again."
        )
    )


async def _broker_unavailable(_request: Request, error: Any) -> JSONResponse:
    log.warning("broker_unavailable", error=str(error))
    return answer(
        unavailable(
            ErrorCode.BROKER_UNAVAILABLE,
            "Kafka is not available right now; nothing was accepted, try again.",
        )
    )


async def _invalid(_request: Request, error: Any) -> JSONResponse:
    """Answers what FastAPI found. `detail` is never a list: the SDK would lose code and message."""
    faults = [
        {
            "field": ".".join(str(part) for part in fault["loc"][1:]) or None,
            "code": fault["type"],
            "message": fault["msg"],
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
    return answer(ApiError(code, message, errors=faults))


async def _http_error(request: Request, error: Any) -> JSONResponse:
    codes = {
        HTTPStatus.NOT_FOUND: (ErrorCode.NOT_FOUND, "There is nothing at this address."),
        HTTPStatus.METHOD_NOT_ALLOWED: (
            ErrorCode.METHOD_NOT_ALLOWED,
            "This address does not take that method.",
        ),
    }
    code, message = codes.get(error.status_code, (ErrorCode.INVALID_PAYLOAD, str(error.detail)))
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(sorted(set(_methods(request))))}
    return answer(ApiError(code, message, HTTPStatus(error.status_code), headers=headers))


def _methods(request: Request) -> Iterator[str]:
    """Yields all methods that this address takes; HEAD wherever GET is.

    Starlette names those of the first route that fits, and FastAPI makes each method a route.
    /v1/pins/batch is an address of its own, though /v1/pins/{pin_id} would fit, too.
    """
    path = getattr(request.scope.get("route"), "path", None)
    for route in iter_route_contexts(request.app.router.routes):
        if route.path == path:
            yield from route.methods or ()
            if "GET" in (route.methods or ()):
                yield "HEAD"
