"""Limits how many uploads are read at the same time, fairly between workspaces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from uuid import UUID

from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode
from shared.runtime.limits.reservations import FairQueue, WaitTimeout

UPLOADS_AT_ONCE = 3
"""Uploads that one process reads at the same time. One of 5 MiB usually takes 33 MB of memory, and
100 MB if it is one row with millions of cells."""
UPLOADS_PER_WORKSPACE = 2
WAIT_SECONDS = 10.0


class UploadSlots:
    """The slots of one process for reading uploads."""

    def __init__(self, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._queue: FairQueue[UUID] = FairQueue(
            UPLOADS_AT_ONCE, timeout_seconds=wait_seconds, slots_per_key=UPLOADS_PER_WORKSPACE
        )

    @property
    def has_free_slot(self) -> bool:
        return self._queue.has_free_slot

    @asynccontextmanager
    async def slot(self, workspace_id: UUID) -> AsyncIterator[None]:
        """Waits for a slot and holds it while the block runs. Raises ApiError (503)."""
        try:
            reservation = await self._queue.acquire(workspace_id)
        except WaitTimeout:
            raise ApiError(
                ErrorCode.TOO_BUSY,
                "Too many files of imports are being read right now. Try again.",
                HTTPStatus.SERVICE_UNAVAILABLE,
                headers=RETRY_AFTER,
            ) from None
        with reservation:
            yield
