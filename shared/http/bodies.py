"""Reads bodies, never more of one than its limit."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from fastapi import Request

from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode
from shared.runtime.limits.reservations import ByteBudget, Reservation, WaitTimeout

MAX_DISCARDED_BYTES = 64 * 1024 * 1024
"""What is read, and thrown away, of a body that is too large.

As much as the gateway lets through.
"""
SMALL_BODY_BYTES = 256 * 1024
"""Bytes of a body that is charged for as it comes. 500 usual rows are 160 kB."""
WAIT_SECONDS = 2.0
"""How long a body waits for memory. A full budget is worked off in about 0.2 s."""


def require_content_type(request: Request, *accepted: str) -> None:
    """Raises ApiError (415).

    A request without one is taken at its word: it is parsed, and refused if it isn't what it should
    be.
    """
    given = request.headers.get("content-type", accepted[0]).partition(";")[0].strip().lower()
    if given not in accepted:
        raise _unsupported(f"Send {' or '.join(accepted)}, not {given or 'nothing'}.")
    # Never decompressed: a few kilobytes can become gigabytes
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise _unsupported("Send the body as it is: no Content-Encoding is supported.")


class BodyReader:
    """How a service reads bodies: up to a size, in a time, and no more of them at once than its
    memory allows.

    A body is charged for as it comes, up to SMALL_BODY_BYTES (more than 500 usual rows). What is
    larger waits for room for all the rest of it before it is read on. So a client that sends slowly
    holds only what it has sent, and one that is let go on always can.
    """

    def __init__(self, *, limit_bytes: int, timeout_seconds: float, total_bytes: int) -> None:
        """`total_bytes`: of all bodies together, half of it for first parts; at least twice
        `limit_bytes`.
        """
        self._limit_bytes = limit_bytes
        self._timeout_seconds = timeout_seconds
        self._first_parts = ByteBudget(total_bytes // 2, WAIT_SECONDS)
        self._rests = ByteBudget(total_bytes // 2, WAIT_SECONDS)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, never more than the limit in memory; its room is held until the block
        ends.

        Raises ApiError: 413 for a larger one, 408 for a slow one, 503 when too much is being
        read.
        """
        held: list[Reservation] = []
        try:
            yield await self._read(request, held)
        finally:
            for reservation in held:
                reservation.release()

    async def discard(self, request: Request) -> None:
        """Of a request that is refused before its body is read: nothing of it is kept, and it takes
        no longer than a body may.
        """
        await discard(request, self._timeout_seconds)

    async def _read(self, request: Request, held: list[Reservation]) -> bytes:
        chunks = request.stream()
        announced = request.headers.get("content-length", "")
        expected = int(announced) if announced.isdigit() else self._limit_bytes
        too_large = expected > self._limit_bytes
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if (
                    not too_large
                    and (body := await self._collect(chunks, expected, held)) is not None
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
        self, chunks: AsyncGenerator[bytes, None], expected: int, held: list[Reservation]
    ) -> bytearray | None:
        """None when it is more than the limit."""
        body = bytearray()
        paid = 0
        async for chunk in chunks:
            size = len(body) + len(chunk)
            if size > self._limit_bytes:
                return None
            if size > paid:
                budget, more = (
                    (self._first_parts, len(chunk))
                    if size <= SMALL_BODY_BYTES
                    else (self._rests, max(expected, size) - paid)
                )
                held.append(await budget.acquire(more))
                paid += more
            body += chunk
        return body


async def discard(request: Request, seconds: float) -> None:
    """Read the body and keep nothing of it, for so long at most: a client that is still sending
    would not get its answer.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _discard(request.stream())


async def _discard(chunks: AsyncGenerator[bytes, None]) -> None:
    # Answered while the client still sends, the refusal would be lost: TCP resets a connection that
    # is closed with unread data
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > MAX_DISCARDED_BYTES:
            return


def _unsupported(message: str) -> ApiError:
    return ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _too_slow(seconds: float) -> ApiError:
    # The connection stays open, and what still comes is thrown away: closed, the answer would be
    # lost to a gateway that is sending
    message = f"The body did not arrive within {seconds:g} seconds."
    return ApiError(ErrorCode.REQUEST_TIMEOUT, message, HTTPStatus.REQUEST_TIMEOUT)


def _too_busy() -> ApiError:
    message = "Too many large requests are being read right now; nothing was accepted, try again."
    return ApiError(
        ErrorCode.TOO_BUSY, message, HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY_AFTER
    )


def _too_large(limit_bytes: int) -> ApiError:
    message = f"The body is larger than {limit_bytes} bytes."
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    # Of what is far too large the rest is not read: the connection can't be used again
    return ApiError(
        ErrorCode.PAYLOAD_TOO_LARGE,
        message,
        status,
        headers={"Connection": "close"},
        limit_bytes=limit_bytes,
    )
