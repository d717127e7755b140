"""Sends a file in chunks, and limits how many are written at the same time."""

import asyncio
from collections.abc import Callable, Iterator
from uuid import UUID

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from shared.contract.errors import ErrorCode
from shared.http.errors import build_unavailable_error
from shared.runtime.limits.reservations import FairQueue, WaitTimeout

log = structlog.get_logger()

DOWNLOADS_AT_ONCE = 4
"""Files that one process writes at the same time. One takes at most about 60 MB of memory, for an
upload of 5 MiB."""
DOWNLOADS_PER_WORKSPACE = 2
WAIT_SECONDS = 10.0
MAX_DOWNLOAD_SECONDS = 60.0
"""Maximum time that a client may take to receive a file. After it the connection is closed, because
the file's memory is needed for others."""
CSV_TYPE = "text/csv; charset=utf-8; header=present"

DownloadQueue = FairQueue[UUID]


def create_download_queue() -> DownloadQueue:
    """Builds the queue of the downloads of one process, fair between workspaces."""
    return FairQueue(
        DOWNLOADS_AT_ONCE, timeout_seconds=WAIT_SECONDS, slots_per_key=DOWNLOADS_PER_WORKSPACE
    )


class CsvDownload(StreamingResponse):
    """A file that is built in a thread when its turn has come, and sent in chunks."""

    def __init__(
        self,
        queue: DownloadQueue,
        workspace_id: UUID,
        build: Callable[[], Iterator[bytes]],
        disposition: str,
    ) -> None:
        """Takes the function that builds the chunks. It may raise ApiError."""
        super().__init__(
            iter(()), headers={"Content-Disposition": disposition}, media_type=CSV_TYPE
        )
        self._queue = queue
        self._workspace_id = workspace_id
        self._build = build

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Waits for a slot and holds it until the file is sent. Raises ApiError (503)."""
        try:
            slot = await self._queue.acquire(self._workspace_id)
        except WaitTimeout:
            raise build_unavailable_error(
                ErrorCode.TOO_BUSY, "Too many files are being written right now. Try again."
            ) from None
        with slot:
            chunks = await asyncio.to_thread(self._build)
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
