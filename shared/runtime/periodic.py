"""Runs periodic work, for example publishing scheduled pins that are due.

The work waits in a table: no event announces it.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.contract.errors import Unavailable
from shared.runtime.backoff import backoff

log = structlog.get_logger()

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 10.0
WAKE_DELAY_SECONDS = 0.2
"""The wait after a wake-up, so that more work can arrive: a run costs the same for one item and for
fifty."""
MAX_FAILURES = 3
"""Maximum consecutive failed runs before the process reports that it is not ready."""


class PeriodicTask:
    """Calls `run_once` repeatedly, until it is canceled.

    `run_once` processes a limited number of items and returns how many. After 0 items, the next
    call waits for `wake` or for `interval_seconds`; otherwise it follows at once. Replicas share
    the work if `run_once` selects items with `for update skip locked`. If `run_once` raises, the
    next call comes after a backoff. Nothing is lost: the items are still in the table.
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
        """Returns why the work is not done, or None."""
        return (
            f"{self.name}: the last {self._failures} runs failed. See the service's log"
            if self._failures > MAX_FAILURES
            else None
        )

    def wake(self) -> None:
        """Ends the wait for the interval, because there is work."""
        self._woken.set()

    async def run(self) -> None:
        """Runs until it is canceled."""
        while True:
            self._woken.clear()
            try:
                processed = await self._run_once()
                self._failures = 0
            except Unavailable as error:
                log.warning("task_postponed", task=self.name, error=str(error))
                processed = await self._back_off()
            except asyncio.CancelledError:
                if is_canceled():
                    raise
                log.warning("task_postponed", task=self.name, error="a library canceled its call")
                processed = await self._back_off()
            except Exception:
                log.exception("task_failed", task=self.name)
                processed = await self._back_off()
            if not processed:
                await self._wait()

    async def _back_off(self) -> int:
        """Waits. Returns 1, because there may be work."""
        seconds = backoff(self._failures, first=FIRST_BACKOFF_SECONDS, limit=MAX_BACKOFF_SECONDS)
        self._failures += 1
        await asyncio.sleep(seconds)
        return 1

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._interval_seconds):
                await self._woken.wait()
                await asyncio.sleep(WAKE_DELAY_SECONDS)
        except TimeoutError:
            return


def is_canceled() -> bool:
    """Returns whether the current task itself is canceled.

    Otherwise a CancelledError has escaped from a library that canceled work of its own: aiokafka
    does when Kafka's connections break at the wrong moment (seen in `make deliveries`).
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
