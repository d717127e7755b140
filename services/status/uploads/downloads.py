"""Sends a file in chunks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

log = structlog.get_logger()

MAX_DOWNLOAD_SECONDS = 60.0
"""Maximum time that a client may take to receive a file. After it the connection is closed, because
the file's memory is needed for others."""
CSV_TYPE = "text/csv; charset=utf-8; header=present"


class CsvDownload(StreamingResponse):
    """A file that is opened when its slot is free, and sent in chunks."""

    def __init__(
        self,
        slot: AbstractAsyncContextManager[None],
        open_file: Callable[[], Awaitable[Iterator[bytes]]],
        disposition: str,
    ) -> None:
        """Takes the slot to hold, and the function that opens the file. Both may raise ApiError."""
        super().__init__(
            iter(()), headers={"Content-Disposition": disposition}, media_type=CSV_TYPE
        )
        self._slot = slot
        self._open_file = open_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends the file. Raises ApiError before the response starts."""
        async with self._slot:
            chunks = await self._open_file()
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            try:
                async with asyncio.timeout(MAX_DOWNLOAD_SECONDS):
                    await _send_all(chunks, send)
            except TimeoutError:
                # Without its last chunk, the client knows that the file is incomplete
                log.warning("download_too_slow")


async def _send_all(chunks: Iterator[bytes], send: Send) -> None:
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
