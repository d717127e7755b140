"""What every HTTP answer of Pinflow has in common: its errors, its request id, its log line and its
metrics.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from uuid import UUID, uuid4

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.contract.errors import (
    RETRY_AFTER,
    BrokerUnavailable,
    DatabaseUnavailable,
    ErrorCode,
    RequestRefused,
    not_found,
)
from shared.http.health import Health
from shared.runtime import metrics

log = structlog.get_logger()

VERSION = version("pinflow")
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CLIENT_GONE = 499
"""Not sent to anyone: what nginx made the habit of logging for a client that went away before its
answer.
"""
QUIET_ROUTES = {"/healthz", "/readyz", "/metrics"}
UNLIMITED_PATHS = {*QUIET_ROUTES, "/internal/readyz"}


class ErrorDetail(BaseModel, extra="allow"):
    """A code of docs/api.md and a sentence; some codes add fields."""

    code: ErrorCode
    message: str


class ErrorResponse(BaseModel):
    detail: ErrorDetail


def refusals(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors that endpoints answer, beside those which all of them do."""
    return {status: {"model": ErrorResponse} for status in statuses}


NOT_FOUND = refusals(HTTPStatus.NOT_FOUND)
CONFLICT = refusals(HTTPStatus.CONFLICT)

NO_ACCESS = refusals(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
"""Of every endpoint that wants a key."""

UNREADABLE = refusals(
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


def create_api(
    service: str, *, summary: str, lifespan: Lifespan, health: Health, concurrency: int
) -> FastAPI:
    """A FastAPI application with Pinflow's errors, request ids, metrics and health endpoints;
    routers are the caller's.

    `concurrency`: requests in work at once; more are answered 503.
    """
    api = FastAPI(
        title=f"Pinflow {service}",
        summary=summary,
        version=VERSION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # The address it redirects to is made of whatever the client sent as Host
        redirect_slashes=False,
        responses=refusals(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    api.state.health = health
    api.add_exception_handler(RequestRefused, _refused)
    api.add_exception_handler(DatabaseUnavailable, _database_unavailable)
    api.add_exception_handler(BrokerUnavailable, _broker_unavailable)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_middleware(ConcurrencyLimit, most=concurrency)
    api.add_middleware(RequestContext, service=service)  # the outermost
    return api


def add_process_endpoints(api: FastAPI) -> None:
    """/healthz, /readyz and /metrics of one process, for its supervisor and its monitoring; not for
    the gateway.
    """

    @api.get("/healthz", include_in_schema=False)
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": VERSION}

    @api.get("/readyz", include_in_schema=False)
    async def readiness(request: Request) -> JSONResponse:
        report = await request.app.state.health.report()
        status = HTTPStatus.OK if report.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(
            {"status": report.status, "version": VERSION, "checks": report.checks}, status
        )

    add_metrics_endpoint(api)


def add_metrics_endpoint(api: FastAPI) -> None:
    @api.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def uuid_or_404(text: str, what: str) -> UUID:
    """An id that is no UUID names nothing: the same answer as for one that does not exist."""
    try:
        return UUID(text)
    except ValueError:
        raise not_found(what) from None


class RequestContext:
    """Gives each request its id, its log line, its metric, and a 500 without a trace when something
    broke.

    Plain ASGI: Starlette's BaseHTTPMiddleware runs the application in a task of its own, and hides
    its cancellation.
    """

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_request_id(scope) or uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                status = status or CLIENT_GONE
            except Exception:
                log.exception(
                    "request_failed", method=scope["method"], route=_route_of(scope)
                )  # a path may hold what is not for logs
                if status is None:
                    await _internal_error(request_id)(scope, receive, send_with_id)
            finally:
                self._observe(scope, status, time.perf_counter() - started)

    def _observe(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = _route_of(scope)
        metrics.HTTP_SECONDS.labels(self._service, scope["method"], route, str(status)).observe(
            seconds
        )
        if route not in QUIET_ROUTES:
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                ms=round(seconds * 1000, 1),
            )


def _route_of(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")


class ConcurrencyLimit:
    """Answers 503 when `most` requests are in work, so that no flood takes a process's memory; its
    supervisor is always answered.

    uvicorn's own limit counts idle connections too, and answers without a code.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
        elif self._in_work >= self._most:
            await _answer(
                _unavailable(
                    ErrorCode.TOO_BUSY,
                    "Too many requests are in work; nothing was accepted, try again.",
                )
            )(scope, receive, send)
        else:
            self._in_work += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._in_work -= 1


def _given_request_id(scope: Scope) -> str | None:
    """The caller's X-Request-ID, if it is fit for a log and a header."""
    value = next(
        (value for name, value in scope["headers"] if name == b"x-request-id"), b""
    ).decode("latin-1")
    return value if REQUEST_ID.fullmatch(value) else None


def _internal_error(request_id: str) -> JSONResponse:
    message = (
        "Something broke on our side. Nothing of it is your request's fault; the request_id finds "
        "it in the log."
    )
    return _answer(
        RequestRefused(
            ErrorCode.INTERNAL_ERROR,
            message,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            request_id=request_id,
        )
    )


def _answer(refusal: RequestRefused) -> JSONResponse:
    return JSONResponse(refusal.body(), refusal.status, headers=refusal.headers)


async def _refused(_request: Request, error: Any) -> JSONResponse:
    return _answer(error)


async def _database_unavailable(_request: Request, error: Any) -> JSONResponse:
    log.warning("database_unavailable", error=str(error))
    return _answer(
        _unavailable(
            ErrorCode.DATABASE_UNAVAILABLE, "The database is not available right now; try again."
        )
    )


async def _broker_unavailable(_request: Request, error: Any) -> JSONResponse:
    log.warning("broker_unavailable", error=str(error))
    return _answer(
        _unavailable(
            ErrorCode.BROKER_UNAVAILABLE,
            "Kafka is not available right now; nothing was accepted, try again.",
        )
    )


def _unavailable(code: ErrorCode, message: str) -> RequestRefused:
    return RequestRefused(code, message, HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY_AFTER)


async def _invalid(_request: Request, error: Any) -> JSONResponse:
    """FastAPI's own findings. Never a list as `detail`: the SDK would lose code and message."""
    faults = [
        {
            "field": ".".join(str(part) for part in fault["loc"][1:]) or None,
            "code": fault["type"],
            "message": fault["msg"],
        }
        for fault in error.errors()[:20]
    ]
    in_body = any(fault["loc"][:1] == ("body",) for fault in error.errors())
    if any(fault["code"] == "json_invalid" for fault in faults):
        code = ErrorCode.INVALID_JSON
    else:
        code = ErrorCode.INVALID_PAYLOAD if in_body else ErrorCode.INVALID_PARAMETER
    first = faults[0]
    message = f"{first['field']}: {first['message']}" if first["field"] else str(first["message"])
    return _answer(RequestRefused(code, message, errors=faults))


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
        headers = {"Allow": ", ".join(sorted(_methods(request)))}
    return _answer(RequestRefused(code, message, HTTPStatus(error.status_code), headers=headers))


def _methods(request: Request) -> Iterator[str]:
    """All that this address takes. Starlette names those of the first route that fits, and FastAPI
    makes each method a route.

    /v1/pins/batch is an address of its own, though /v1/pins/{pin_id} would fit, too.
    """
    path = _route_of(request.scope)
    for route in iter_route_contexts(request.app.router.routes):
        if route.path == path:
            yield from route.methods or ()
