"""Limits how many requests one process works on at once."""

from starlette.types import ASGIApp, Receive, Scope, Send

from shared.contract.errors import ErrorCode
from shared.http.errors import answer, unavailable
from shared.http.middleware import QUIET_ROUTES
from shared.runtime.limits.reservations import ConcurrencyLimit, LimitReached

UNLIMITED_PATHS = {*QUIET_ROUTES, "/internal/readyz"}


class LimitConcurrency:
    """Answers 503 when `limit` requests are in work, so that no flood takes a process's memory; its
    supervisor is always answered.

    uvicorn's own limit counts idle connections too, and answers without a code.
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
            refusal = unavailable(
                ErrorCode.TOO_BUSY,
                "Too many requests are in work; nothing was accepted, try again.",
            )
            await answer(refusal)(scope, receive, send)
            return
        with reservation:
            await self._app(scope, receive, send)
