"""Reads request bodies within limits on size, time and memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from fastapi import Request

from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode
from shared.runtime.limits.reservations import ByteBudget, Reservation, WaitTimeout

MAX_DISCARDED_BYTES = 64 * 1024 * 1024
"""Maximum bytes of a body that are read only to discard them: all that the gateway lets through."""
SMALL_BODY_BYTES = 256 * 1024
"""Bytes that a body may have before it must reserve memory for the rest.

500 usual rows are 160 kB.
"""
WAIT_SECONDS = 2.0
"""Longest wait of a body for memory. A full budget is processed in about 0.2 s."""

CURL_ADVICE = {
    "application/json": " With curl: -H 'Content-Type: application/json'",
    "multipart/form-data": " With curl: -F file=@pins.csv",
}


def require_content_type(request: Request, *accepted: str) -> None:
    """Raises ApiError (415) for another content type or any content encoding.

    A request without a content type passes: parsing rejects a body of another format.
    """
    content_type = request.headers.get("content-type", accepted[0])
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in accepted:
        found = media_type or "empty"
        advice = CURL_ADVICE.get(accepted[0], "")
        raise _unsupported(f"The content type is {found}. Send {' or '.join(accepted)}.{advice}")
    # Never decompressed: a few kilobytes can become gigabytes
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise _unsupported("The body has a Content-Encoding. Send it without compression.")


class BodyReader:
    """Reads bodies up to a size and within a timeout, with a memory budget for all of them.

    Up to SMALL_BODY_BYTES a body reserves memory as its chunks arrive. A larger body must then
    reserve memory for its whole rest before more is read. So a slow client holds only the memory
    of what it has sent, and a body that has its reservation can always be read to its end.
    """

    def __init__(self, *, limit_bytes: int, timeout_seconds: float, total_bytes: int) -> None:
        """Reserves at most `total_bytes` for all bodies, half of it for their first parts.

        `total_bytes` must be at least twice `limit_bytes`.
        """
        self._limit_bytes = limit_bytes
        self._timeout_seconds = timeout_seconds
        self._start_budget = ByteBudget(total_bytes // 2, WAIT_SECONDS)
        self._rest_budget = ByteBudget(total_bytes // 2, WAIT_SECONDS)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the whole body and holds its memory reservation until the block ends.

        Raises ApiError: 413 if it is larger than the limit, 408 if it is too slow, 503 if no memory
        becomes free in time.
        """
        reservations: list[Reservation] = []
        try:
            yield await self._read(request, reservations)
        finally:
            for reservation in reservations:
                reservation.release()

    async def discard(self, request: Request) -> None:
        """Discards the body of a request that was rejected before reading, within the timeout."""
        await discard(request, self._timeout_seconds)

    async def _read(self, request: Request, reservations: list[Reservation]) -> bytes:
        chunks = request.stream()
        content_length = request.headers.get("content-length", "")
        expected = int(content_length) if content_length.isdigit() else self._limit_bytes
        too_large = expected > self._limit_bytes
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if (
                    not too_large
                    and (body := await self._collect(chunks, expected, reservations)) is not None
                ):
                    return bytes(body)
                too_large = True
                await _discard(chunks)
        except TimeoutError:
            if not too_large:
                raise _too_slow(self._timeout_seconds) from None
        except WaitTimeout:
            raise _too_busy() from None
        raise _too_large(self._limit_bytes)

    async def _collect(
        self, chunks: AsyncGenerator[bytes, None], expected: int, reservations: list[Reservation]
    ) -> bytearray | None:
        """Collects the body. Returns None if it is larger than the limit."""
        body = bytearray()
        reserved = 0
        async for chunk in chunks:
            size = len(body) + len(chunk)
            if size > self._limit_bytes:
                return None
            if size > reserved:
                budget, missing = (
                    (self._start_budget, len(chunk))
                    if size <= SMALL_BODY_BYTES
                    else (self._rest_budget, max(expected, size) - reserved)
                )
                reservations.append(await budget.acquire(missing))
                reserved += missing
            body += chunk
        return body


async def discard(request: Request, seconds: float) -> None:
    """Reads and discards the body for at most `seconds`.

    Otherwise a client that is still sending would not get its response.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _discard(request.stream())


async def _discard(chunks: AsyncGenerator[bytes, None]) -> None:
    # TCP resets a connection that is closed with unread data, and the client loses the response
    discarded = 0
    async for chunk in chunks:
        discarded += len(chunk)
        if discarded > MAX_DISCARDED_BYTES:
            return


def _unsupported(message: str) -> ApiError:
    return ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _too_slow(seconds: float) -> ApiError:
    # The connection stays open and the rest is discarded: a gateway that is still sending would
    # lose the response if it were closed
    message = (
        f"The body did not arrive within {seconds:g} seconds. Use a faster connection, or split "
        "the body into several requests."
    )
    return ApiError(ErrorCode.REQUEST_TIMEOUT, message, HTTPStatus.REQUEST_TIMEOUT)


def _too_busy() -> ApiError:
    message = "Too many large requests are being read right now. Nothing was accepted. Try again."
    return ApiError(
        ErrorCode.TOO_BUSY, message, HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY_AFTER
    )


def _too_large(limit_bytes: int) -> ApiError:
    message = f"The body is larger than {limit_bytes} bytes. Send a smaller one."
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    # A body that is far too large is not read to its end, so the connection can't be reused
    return ApiError(
        ErrorCode.PAYLOAD_TOO_LARGE,
        message,
        status,
        headers={"Connection": "close"},
        limit_bytes=limit_bytes,
    )
