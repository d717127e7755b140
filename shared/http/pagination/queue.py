"""Shares a service's connections for lists fairly between workspaces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from shared.contract.errors import DatabaseUnavailable, ErrorCode, Overloaded
from shared.runtime.limits.reservations import FairQueue, WaitTimeout

WAIT_SECONDS = 10.0
"""Longest wait for a slot: the same as the default wait for a connection of the pool."""
MAX_PER_WORKSPACE = 32
"""Maximum lists of one workspace that run or wait.

A list with the most scanned rows takes 0.14 s, so the last one waits half of WAIT_SECONDS.
"""


class ListQueue:
    """Runs at most `concurrency` lists at once.

    If there are at least two slots, one workspace gets at most all but one.
    """

    def __init__(self, concurrency: int) -> None:
        self._queue: FairQueue[UUID] = FairQueue(
            concurrency, slots_per_key=max(1, concurrency - 1), timeout_seconds=WAIT_SECONDS
        )

    @asynccontextmanager
    async def slot(self, workspace_id: UUID) -> AsyncIterator[None]:
        """Waits for a slot and holds it while the block runs.

        Raises Overloaded at once if too many of the workspace's lists run or wait, and
        DatabaseUnavailable if no slot becomes free in time.
        """
        current = self._queue.held(workspace_id) + self._queue.waiting(workspace_id)
        if current >= MAX_PER_WORKSPACE:
            message = (
                f"{current} lists of this workspace are running or waiting. No more are allowed at "
                "the same time. Try again."
            )
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=1,
                limit=MAX_PER_WORKSPACE,
                current=current,
            )
        try:
            reservation = await self._queue.acquire(workspace_id)
        except WaitTimeout as error:
            raise DatabaseUnavailable(
                f"no connection for lists became free in {WAIT_SECONDS:g} s"
            ) from error
        with reservation:
            yield
