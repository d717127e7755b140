"""Shares a few slots fairly among keys, for example workspaces."""

import asyncio
import math
from collections import Counter, OrderedDict, defaultdict, deque
from functools import partial
from typing import Generic, TypeVar

from shared.runtime.limits.reservations import Reservation, wait_until_granted, was_granted

K = TypeVar("K")


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
            await wait_until_granted(grant, self._timeout_seconds)
        except BaseException:
            self._abandon(key, grant)
            raise

    def _abandon(self, key: K, grant: "asyncio.Future[None]") -> None:
        if was_granted(grant):
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
