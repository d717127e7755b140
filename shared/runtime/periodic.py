"""Work that is found rather than delivered: events that wait in a table, schedules that are due."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.contract.errors import Unavailable

log = structlog.get_logger()

MAX_BACKOFF_SECONDS = 10.0
WAKE_DELAY_SECONDS = 0.2
"""Woken, a sweeper lets some more work come together: a sweep costs the same for one thing and for
fifty.
"""
MAX_FAILURES = 3
"""In a row; more, and readiness tells."""


class PeriodicTask:
    """Calls `sweep` again and again: at once while it finds work, else when woken or after
    `interval_seconds`.

    `sweep` takes a bounded amount with `for update skip locked`, so several replicas share the
    work; it returns how much it did. Raising Unavailable, or anything else, puts the next try off;
    nothing is lost, as the work stands in the table.
    """

    def __init__(
        self, name: str, run_once: Callable[[], Awaitable[int]], *, interval_seconds: float
    ) -> None:
        self.name = name
        self._run_once = run_once
        self._interval_seconds = interval_seconds
        self._woken = asyncio.Event()
        self._failures = 0

    def problem(self) -> str | None:
        """Why the work isn't done, or None."""
        return (
            f"{self.name}: failed {self._failures} times in a row"
            if self._failures > MAX_FAILURES
            else None
        )

    def wake(self) -> None:
        """There is work: don't wait for the interval."""
        self._woken.set()

    async def run(self) -> None:
        while True:
            self._woken.clear()
            try:
                done = await self._run_once()
                self._failures = 0
            except Unavailable as error:
                log.warning("task_waits", task=self.name, error=str(error))
                done = await self._back_off()
            except Exception:
                log.exception("task_failed", task=self.name)
                done = await self._back_off()
            if not done:
                await self._wait()

    async def _back_off(self) -> int:
        seconds = min(0.1 * 2**self._failures, MAX_BACKOFF_SECONDS)
        self._failures = min(self._failures + 1, 10)
        await asyncio.sleep(seconds)
        return 1

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._interval_seconds):
                await self._woken.wait()
                await asyncio.sleep(WAKE_DELAY_SECONDS)
        except TimeoutError:
            return
