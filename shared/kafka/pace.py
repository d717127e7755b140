"""How often batches begin: the more often, the smaller they are, and each costs the same whatever
it holds.
"""

import asyncio
import time


class Pace:
    """A token bucket: `per_second` turns in the long run, up to `at_once` of them without a wait
    after a rest.

    So a few records that come alone are not kept waiting, and a stream of them comes together in
    fewer, larger batches.
    """

    def __init__(self, per_second: float, at_once: int) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._left = float(at_once)
        self._counted_at = time.monotonic()

    async def turn(self) -> None:
        """Returns when a batch may begin, after 1/per_second at most. For one task at a time."""
        if (missing := 1 - self._count()) > 0:
            await asyncio.sleep(missing / self._per_second)
            self._count()
        self._left -= 1

    def _count(self) -> float:
        now = time.monotonic()
        self._left = min(self._at_once, self._left + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        return self._left
