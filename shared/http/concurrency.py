"""Limits the concurrent requests of one process."""

from starlette.types import ASGIApp, Receive, Scope, Send

from shared.contract.errors import ErrorCode
from shared.http.errors import build_response, build_unavailable_error
from shared.http.middleware import QUIET_ROUTES
from shared.runtime.limits.reservations import ConcurrencyLimit, LimitReached

UNLIMITED_PATHS = {*QUIET_ROUTES, "/internal/readyz"}


class LimitConcurrency:
    """Answers 503 while `limit` requests are in progress, so that a flood can't fill the memory.

    Health checks and metrics are always answered. uvicorn's own limit also counts idle connections,
    and its response has no error code.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = ConcurrencyLimit(limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            reservation = self._limit.acquire()
        except LimitReached:
            error = build_unavailable_error(
                ErrorCode.TOO_BUSY,
                "Too many requests are in progress. Nothing was accepted. Try again.",
            )
            await build_response(error)(scope, receive, send)
            return
        with reservation:
            await self._app(scope, receive, send)
