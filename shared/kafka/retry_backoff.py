"""Acts on the failure policy's decisions: reports a failure, then waits before the retry."""

import asyncio
import random
from typing import assert_never

import structlog

from shared.kafka.failure_policy import (
    Halt,
    RetryUnavailable,
    RetryUnexpected,
    WaitForCapacity,
)
from shared.runtime import metrics

log = structlog.get_logger()


class RetryBackoff:
    """Reports one consumer's failures, and waits until its batch may be retried."""

    def __init__(self, name: str, title: str, member: int) -> None:
        self._name = name
        self._title = title
        self._interrupted = asyncio.Event()
        self._halted_gauge = metrics.CONSUMER_HALTED.labels(name, member)
        # Creates the counter with 0: Prometheus sees no increase in a counter that starts at 1
        metrics.BATCH_RETRIES.labels(name)

    def report(
        self,
        decision: WaitForCapacity | RetryUnavailable | RetryUnexpected | Halt,
        error: Exception,
    ) -> None:
        """Logs and counts a failure. A wait for capacity is not counted, and logged only once."""
        match decision:
            case WaitForCapacity():
                if decision.is_first:
                    log.info("batch_waits_for_capacity", consumer=self._title, **decision.details)
                return
            case RetryUnavailable():
                fields = {"consumer": self._title, "attempt": decision.attempt}
                log.warning("batch_waits", **fields, error=str(error))
            case RetryUnexpected():
                fields = {"consumer": self._title, "attempt": decision.attempt}
                log.error("batch_failed", **fields, exc_info=error)
            case Halt():
                log.critical(
                    "consumer_halted",
                    consumer=self._title,
                    error=str(error),
                    next="fix the cause, or raise PINFLOW_CONSUMER_POISON_LIMIT; nothing is lost",
                )
            case _:
                assert_never(decision)
        metrics.BATCH_RETRIES.labels(self._name).inc()

    def show_halted(self, *, is_halted: bool) -> None:
        """Sets the metric pinflow_consumer_halted."""
        self._halted_gauge.set(is_halted)

    async def wait(self, seconds: float) -> None:
        """Waits for a random part of `seconds`, at least half. Ends at once when interrupted."""
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 1)):  # noqa: S311 - jitter
                await self._interrupted.wait()
        except TimeoutError:
            return

    def interrupt(self) -> None:
        """Ends all waits until `allow` is called."""
        self._interrupted.set()

    def allow(self) -> None:
        """Ends the interruption: later failures wait again."""
        self._interrupted.clear()
