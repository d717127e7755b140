"""Limits concurrent work: by number, by bytes, and by a fair queue over keys.

Each limit returns a Reservation of capacity. Without free capacity, a limit raises LimitReached at
once, or lets its caller wait and then raises WaitTimeout.
"""

import asyncio
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

K = TypeVar("K")


class LimitReached(Exception):
    """All capacity is taken: `current` of `limit` reservations exist."""

    def __init__(self, limit: int, current: int) -> None:
        super().__init__(f"{current} of {limit}")
        self.limit = limit
        self.current = current


class WaitTimeout(Exception):
    """No capacity became free in time."""


class Reservation:
    """Holds capacity until `release`, which the end of a `with` block calls too.

    A second release does nothing.
    """

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Returns the capacity to the limit."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class ConcurrencyLimit:
    """Allows at most `limit` reservations at a time. Nobody waits: a further one is refused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._current = 0

    def acquire(self) -> Reservation:
        """Makes a reservation. Raises LimitReached."""
        if self._current >= self._limit:
            raise LimitReached(self._limit, self._current)
        self._current += 1
        return Reservation(self._release)

    def _release(self) -> None:
        self._current -= 1


class _Waiter(NamedTuple):
    size: int
    grant: "asyncio.Future[None]"


class ByteBudget:
    """Limits the memory of concurrent requests to `size` bytes: first come, first served.

    This order keeps small requests from starving a large one. A request waits for at most
    `timeout_seconds`.
    """

    def __init__(self, size: int, timeout_seconds: float) -> None:
        self._free = size
        self._timeout_seconds = timeout_seconds
        self._queue: deque[_Waiter] = deque()

    async def acquire(self, size: int) -> Reservation:
        """Waits until `size` bytes are free, and reserves them. Raises WaitTimeout."""
        if not self._queue and size <= self._free:
            self._free -= size
        else:
            await self._wait(size)
        return Reservation(partial(self._release, size))

    async def _wait(self, size: int) -> None:
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        try:
            await _wait_until_granted(waiter.grant, self._timeout_seconds)
        except BaseException:
            self._abandon(waiter)
            raise

    def _abandon(self, waiter: _Waiter) -> None:
        if _was_granted(waiter.grant):
            self._release(waiter.size)
            return
        with suppress(ValueError):  # _grant has removed a canceled waiter
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


class FairQueue(Generic[K]):
    """Grants at most `slots` reservations at a time, round-robin over the waiting keys.

    When one key has many requests, another key's request waits for one of them, not for all.
    A key holds at most `slots_per_key` reservations. At that limit it leaves the round. It rejoins
    at the end when it releases one. A request waits for at most `timeout_seconds`.
    """

    def __init__(
        self, slots: int, *, timeout_seconds: float, slots_per_key: float = math.inf
    ) -> None:
        self._free = slots
        self._slots_per_key = slots_per_key
        self._timeout_seconds = timeout_seconds
        self._held: Counter[K] = Counter()
        self._queues: defaultdict[K, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._round: OrderedDict[K, None] = OrderedDict()
        """The waiting keys that may hold another reservation, in the order of their turns."""

    @property
    def has_free_slot(self) -> bool:
        return self._free > 0

    @property
    def total_waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def waiting(self, key: K) -> int:
        """Counts the waiting requests of this key."""
        return len(self._queues.get(key, ()))

    def held(self, key: K) -> int:
        """Counts the reservations of this key."""
        return self._held[key]

    async def acquire(self, key: K) -> Reservation:
        """Waits for this key's turn, and reserves a slot. Raises WaitTimeout."""
        if self._free and self._may_hold_more(key):
            self._take(key)
        else:
            await self._wait(key)
        return Reservation(partial(self._release, key))

    async def _wait(self, key: K) -> None:
        grant: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues[key].append(grant)
        self._join_round(key)
        try:
            await _wait_until_granted(grant, self._timeout_seconds)
        except BaseException:
            self._abandon(key, grant)
            raise

    def _abandon(self, key: K, grant: "asyncio.Future[None]") -> None:
        if _was_granted(grant):
            self._release(key)
        elif grant in self._queues.get(key, ()):  # else _grant has removed it
            self._queues[key].remove(grant)
            self._leave_round(key)

    def _release(self, key: K) -> None:
        self._free += 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._grant()
        self._join_round(key)
        self._grant()

    def _grant(self) -> None:
        while self._free and self._round:
            key = next(iter(self._round))
            grant = self._queues[key].popleft()
            if not grant.done():
                grant.set_result(None)
                self._take(key)
                self._round.move_to_end(key)
            self._leave_round(key)

    def _take(self, key: K) -> None:
        self._free -= 1
        self._held[key] += 1

    def _may_hold_more(self, key: K) -> bool:
        return self._held[key] < self._slots_per_key

    def _join_round(self, key: K) -> None:
        if key in self._queues and self._may_hold_more(key):
            self._round.setdefault(key)

    def _leave_round(self, key: K) -> None:
        """Removes the key from the round if it has no waiting request or is at its limit."""
        if not self._queues[key]:
            del self._queues[key]
        if key not in self._queues or not self._may_hold_more(key):
            self._round.pop(key, None)


async def _wait_until_granted(grant: "asyncio.Future[None]", timeout_seconds: float) -> None:
    """Waits for the grant. Raises WaitTimeout.

    After any exception, the caller must check `_was_granted`: the grant may have come at the same
    moment.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            await grant
    except TimeoutError:
        raise WaitTimeout from None


def _was_granted(grant: "asyncio.Future[None]") -> bool:
    """Returns whether capacity was granted, possibly just before the waiting task was canceled."""
    return grant.done() and not grant.cancelled()
