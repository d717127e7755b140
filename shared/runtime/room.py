"""Memory that many share: bytes are taken before they are used, in the order in which they were
asked for.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import NamedTuple


class NoRoom(Exception):
    """Others hold so much that there was none in time."""


class _Waiting(NamedTuple):
    size: int
    turn: "asyncio.Future[None]"


class Room:
    """`size` bytes. Who asks for what is not free waits in line for `patience_seconds`."""

    def __init__(self, size: int, patience_seconds: float) -> None:
        self._free = size
        self._patience_seconds = patience_seconds
        self._line: deque[_Waiting] = deque()

    async def take(self, size: int) -> None:
        """Raises NoRoom. What was taken is the caller's to give back."""
        if not self._line and size <= self._free:
            self._free -= size
            return
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await waiting.turn
        except TimeoutError:
            self._leave(waiting)
            raise NoRoom from None
        except BaseException:
            self._leave(waiting)
            raise

    def give_back(self, size: int) -> None:
        self._free += size
        self._serve()

    def _leave(self, waiting: _Waiting) -> None:
        if (
            waiting.turn.done() and not waiting.turn.cancelled()
        ):  # its turn came in the moment in which it gave up
            self.give_back(waiting.size)
        else:
            with suppress(
                ValueError
            ):  # passed over when its turn would have come, in that same moment
                self._line.remove(waiting)
            self._serve()

    def _serve(self) -> None:
        while self._line and self._line[0].size <= self._free:
            size, turn = self._line.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)
