"""Middleware of every service: request ids, log lines, metrics, and HEAD wherever GET exists."""

import re
import time
from uuid import uuid4

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.errors import build_internal_error
from shared.runtime import metrics

log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CLIENT_GONE = 499
"""Logged for a client that disconnected before its response, as nginx does. Never sent."""
QUIET_ROUTES = {"/healthz", "/readyz", "/metrics"}


class RequestContext:
    """Gives each request an id, a log line and a metric, and answers 500 after an exception.

    Health checks and metrics get no log line. Plain ASGI, because Starlette's BaseHTTPMiddleware
    runs the application in a separate task and hides its cancellation.
    """

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _read_request_id(scope) or uuid4().hex
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
                # The route, not the path: a path may contain secrets
                log.exception("request_failed", method=scope["method"], route=_find_route(scope))
                if status is None:
                    await build_internal_error(request_id)(scope, receive, send_with_id)
            finally:
                self._observe(scope, status, time.perf_counter() - started)

    def _observe(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = _find_route(scope)
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


class HeadAsGet:
    """Answers HEAD as GET would be answered, without the body (RFC 9110, 9.3.2).

    FastAPI does not route HEAD to a GET endpoint. Routes never see HEAD, so access rules, errors
    and headers are those of GET, and the OpenAPI document is unchanged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: uvicorn reads the method of its own scope to allow Content-Length without a body
        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send_without_body)
        finally:
            if "route" in as_get:  # for the log line and the metric
                scope["route"] = as_get["route"]


def _find_route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")


def _read_request_id(scope: Scope) -> str | None:
    """Returns the caller's X-Request-ID if it is safe for logs and headers."""
    value = next(
        (value for name, value in scope["headers"] if name == b"x-request-id"), b""
    ).decode("latin-1")
    return value if REQUEST_ID.fullmatch(value) else None
