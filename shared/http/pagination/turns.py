"""Whose list is looked up next: so many at once, of one workspace fewer than that, and more than
may wait are refused.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

from shared.contract.errors import DatabaseUnavailable, ErrorCode, Overloaded

TURN_SECONDS = 10.0
"""As long as others wait for a connection of the pool."""
MOST_OF_ONE = 32
"""Lists of one workspace, in work or waiting.

Searches as wide as may be take 0.14 s: the last waits half of TURN_SECONDS.
"""


class _Line:
    """Of one workspace, which stands in everybody's line as often as it has turns, not as often as
    it asks.
    """

    def __init__(self, at_once: int) -> None:
        self.turns = asyncio.Semaphore(at_once)
        self.asked = 0


class Turns:
    """One of `at_once` stays for other workspaces, if there are two."""

    def __init__(self, at_once: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._of_one = max(1, at_once - 1)
        self._lines: WeakValueDictionary[UUID, _Line] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, workspace_id: UUID) -> AsyncIterator[None]:
        """Raises Overloaded at once when too many of the workspace's wait, DatabaseUnavailable when
        no turn came.
        """
        line = self._lines.setdefault(workspace_id, _Line(self._of_one))
        if line.asked >= MOST_OF_ONE:
            message = (
                f"{line.asked} lists of this workspace are being looked up, as many as may be at "
                "once."
            )
            raise Overloaded(
                ErrorCode.OVERLOADED, message, retry_after=1, limit=MOST_OF_ONE, current=line.asked
            )
        line.asked += 1
        try:
            async with AsyncExitStack() as held:
                await self._take(line, held)
                yield
        finally:
            line.asked -= 1

    async def _take(self, line: _Line, held: AsyncExitStack) -> None:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await held.enter_async_context(
                    line.turns
                )  # first, or one workspace could fill everybody's line
                await held.enter_async_context(self._all)
        except TimeoutError as error:
            raise DatabaseUnavailable(
                f"lists took all their connections for {TURN_SECONDS:g} s"
            ) from error
