"""Shares a service's connections for lists fairly among workspaces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from shared.contract.errors import DatabaseUnavailable, ErrorCode, Overloaded
from shared.runtime.limits.reservations import FairQueue, WaitTimeout

WAIT_SECONDS = 10.0
"""As long as others wait for a connection of the pool."""
MAX_PER_WORKSPACE = 32
"""Lists of one workspace, in work or waiting.

Searches as wide as may be take 0.14 s: the last waits half of WAIT_SECONDS.
"""


class ListQueue:
    """Lets `at_once` lists be looked up, and one fewer of one workspace if there are two slots."""

    def __init__(self, at_once: int) -> None:
        self._queue: FairQueue[UUID] = FairQueue(
            at_once, slots_per_key=max(1, at_once - 1), timeout_seconds=WAIT_SECONDS
        )

    @asynccontextmanager
    async def slot(self, workspace_id: UUID) -> AsyncIterator[None]:
        """Waits for a slot and holds it for as long as the body runs.

        Raises Overloaded at once if too many of the workspace's lists wait; DatabaseUnavailable if
        no slot became free.
        """
        current = self._queue.held(workspace_id) + self._queue.waiting(workspace_id)
        if current >= MAX_PER_WORKSPACE:
            message = (
                f"{current} lists of this workspace are being looked up, as many as may be at once."
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
                f"lists took all their connections for {WAIT_SECONDS:g} s"
            ) from error
        with reservation:
            yield
