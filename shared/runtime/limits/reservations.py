"""Limits what a process does at once: in number, in bytes, and in turn by key.

Each limit gives a Reservation for capacity that is held. Without capacity it refuses at once, or
lets its caller wait.
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
    """Refuses at once: `current` of at most `limit` are taken."""

    def __init__(self, limit: int, current: int) -> None:
        super().__init__(f"{current} of {limit}")
        self.limit = limit
        self.current = current


class WaitTimeout(Exception):
    """Refuses after a wait: no capacity became free in time."""


class Reservation:
    """Holds capacity until it is released: at the end of a `with` block, or earlier.

    Releasing it again does nothing.
    """

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Gives the capacity back."""
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
    """Lets at most `limit` reservations exist at once, and refuses more at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._current = 0

    def acquire(self) -> Reservation:
        """Raises LimitReached."""
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
    """Shares `size` bytes of memory: first come, first served.

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
            await _wait_until_granted(waiter.grant, self._timeout_seconds)
        except BaseException:
            self._abandon(waiter)
            raise

    def _abandon(self, waiter: _Waiter) -> None:
        if _was_granted(waiter.grant):
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


class FairQueue(Generic[K]):
    """Grants at most `slots` reservations at once, in a round-robin over the keys that wait.

    A key that floods delays a request of another key by one of its own, not by all of them.
    A key holds at most `slots_per_key`. Having reached that, it leaves the round, and joins it
    again at the end when it releases a slot. A request waits for at most `timeout_seconds`.
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
        """The keys that wait and may hold one more, the next first."""

    @property
    def has_free_slot(self) -> bool:
        return self._free > 0

    @property
    def total_waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def waiting(self, key: K) -> int:
        """Counts the requests of this key that wait."""
        return len(self._queues.get(key, ()))

    def held(self, key: K) -> int:
        """Counts the reservations of this key."""
        return self._held[key]

    async def acquire(self, key: K) -> Reservation:
        """Raises WaitTimeout."""
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
        elif grant in self._queues.get(key, ()):  # else taken out as it was cancelled
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
        """Takes the key out of the round if it waits for nothing or may hold no more."""
        if not self._queues[key]:
            del self._queues[key]
        if key not in self._queues or not self._may_hold_more(key):
            self._round.pop(key, None)


async def _wait_until_granted(grant: "asyncio.Future[None]", timeout_seconds: float) -> None:
    """Raises WaitTimeout. Whatever it raises, the caller has to look at `_was_granted`."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await grant
    except TimeoutError:
        raise WaitTimeout from None


def _was_granted(grant: "asyncio.Future[None]") -> bool:
    """Tells a grant that came just before its task gave up from one that was cancelled."""
    return grant.done() and not grant.cancelled()
