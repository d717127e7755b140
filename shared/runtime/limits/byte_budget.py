"""Shares memory among those who use it at the same time."""

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from shared.runtime.limits.reservations import Reservation, wait_until_granted, was_granted


class _Waiter(NamedTuple):
    size: int
    grant: "asyncio.Future[None]"


class ByteBudget:
    """Reserves parts of `size` bytes: first come, first served.

    So small requests can't starve a large one. A request waits for at most `timeout_seconds`.
    """

    def __init__(self, size: int, timeout_seconds: float) -> None:
        self._free = size
        self._timeout_seconds = timeout_seconds
        self._queue: deque[_Waiter] = deque()

    async def acquire(self, size: int) -> Reservation:
        """Raises WaitTimeout."""
        if not self._queue and size <= self._free:
            self._free -= size
        else:
            await self._wait(size)
        return Reservation(partial(self._release, size))

    async def _wait(self, size: int) -> None:
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        try:
            await wait_until_granted(waiter.grant, self._timeout_seconds)
        except BaseException:
            self._abandon(waiter)
            raise

    def _abandon(self, waiter: _Waiter) -> None:
        if was_granted(waiter.grant):
            self._release(waiter.size)
            return
        with suppress(ValueError):  # taken out of the queue as it was cancelled
            self._queue.remove(waiter)
        self._grant()

    def _release(self, size: int) -> None:
        self._free += size
        self._grant()

    def _grant(self) -> None:
        while self._queue and self._queue[0].size <= self._free:
            size, grant = self._queue.popleft()
            if not grant.done():
                self._free -= size
                grant.set_result(None)
