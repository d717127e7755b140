"""Decides whose import is parsed and written next: some run at once, and those that wait go round
by workspace.

Waiting in one line, a workspace that floods would put a hundred imports before another's one
(measured: 3.7 s to its 202). What waits is a body, not its parsed rows, which take several times as
much.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from services.ingest.config import IngestSettings
from shared.contract.errors import BrokerUnavailable, ErrorCode, Overloaded

RESERVE = 0.1
"""Of the places to wait, on top: for workspaces of which nothing waits."""


PATIENCE = 0.9
"""Of the broker's deadline; what is left is for the append."""


class Turn:
    """One import's turn to be parsed and written."""

    def __init__(self, release: Callable[[], bool]) -> None:
        self._release = release
        self.is_released = False

    def release(self) -> None:
        """Lets the next import begin while this one still waits for Kafka.

        Does nothing if too many wait like that already.
        """
        self.is_released = self.is_released or self._release()


class Turns:
    def __init__(self, *, at_once: int, most_waiting: int, patience_seconds: float) -> None:
        self._free = at_once
        self._most_waiting = most_waiting
        self._patience_seconds = patience_seconds
        self._lines: OrderedDict[UUID, deque[asyncio.Future[None]]] = OrderedDict()
        self._done = 0
        self._released = 0
        """Imports that still wait for Kafka without a turn."""

    @classmethod
    def of(cls, settings: IngestSettings) -> "Turns":
        """Builds the turns from the settings."""
        return cls(
            at_once=settings.imports_at_once,
            most_waiting=settings.max_waiting_imports,
            patience_seconds=settings.broker_deadline_seconds * PATIENCE,
        )

    def require_place(self, workspace_id: UUID) -> None:
        """Raises Overloaded when one more could not wait."""
        waiting = sum(len(line) for line in self._lines.values())
        limit = (
            self._most_waiting
            if workspace_id in self._lines
            else int(self._most_waiting * (1 + RESERVE))
        )
        if waiting >= limit and not self._free:
            raise _too_many(
                f"{waiting} imports wait to be written; the limit is {limit}.", limit, waiting
            )

    @asynccontextmanager
    async def turn(self, workspace_id: UUID) -> AsyncIterator[Turn]:
        """Waits for the workspace's turn, which lasts as long as the body.

        Raises Overloaded when too many wait, or it took too long; BrokerUnavailable when nobody's
        import was written meanwhile.
        """
        await self._take(workspace_id)
        turn = Turn(self._release)
        try:
            yield turn
            self._done += 1
        finally:
            if turn.is_released:
                self._released -= 1
            else:
                self._pass_on()

    def _release(self) -> bool:
        if self._released >= self._most_waiting:
            return False
        self._released += 1
        self._pass_on()
        return True

    async def _take(self, workspace_id: UUID) -> None:
        if self._free:
            self._free -= 1
            return
        self.require_place(workspace_id)
        done_before = self._done
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(workspace_id, deque()).append(called)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await called
        except BaseException as error:
            self._leave(workspace_id, called)
            if not isinstance(error, TimeoutError):
                raise
            seconds = f"{self._patience_seconds:g}"
            if self._done == done_before:
                raise BrokerUnavailable(f"no import could be written for {seconds} s") from None
            limit, waiting = self._most_waiting, sum(len(line) for line in self._lines.values())
            raise _too_many(
                f"This import's turn did not come within {seconds} s.", limit, waiting
            ) from None

    def _leave(self, workspace_id: UUID, called: "asyncio.Future[None]") -> None:
        if (
            called.done() and not called.cancelled()
        ):  # called in the same moment: the turn goes on to the next
            self._pass_on()
            return
        line = self._lines.get(workspace_id)
        if line and called in line:
            line.remove(called)
            if not line:
                del self._lines[workspace_id]

    def _pass_on(self) -> None:
        while self._lines:
            workspace_id, line = next(iter(self._lines.items()))
            called = line.popleft()
            if line:
                self._lines.move_to_end(workspace_id)
            else:
                del self._lines[workspace_id]
            if not called.done():
                called.set_result(None)
                return
        self._free += 1


def _too_many(message: str, limit: int, waiting: int) -> Overloaded:
    details = {"limit": limit, "current": waiting, "reason": "waiting"}
    return Overloaded(
        ErrorCode.OVERLOADED, f"{message} Nothing was accepted.", retry_after=1, **details
    )
