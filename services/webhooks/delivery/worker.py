"""The worker that delivers: takes what is due, sends it, writes down what came of it.

At least once, in no order.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, assert_never

import structlog

from services.webhooks.delivery.concurrency import ConcurrencyLimits
from services.webhooks.delivery.policy import (
    Answer,
    Delivered,
    DeliveryStatus,
    GivenUp,
    Outcome,
    Patience,
    Retry,
    RetryPolicy,
    decide,
)
from services.webhooks.delivery.repository import Busy, Disabled, Due, Room, Told
from shared.contract.errors import Unavailable
from shared.runtime import metrics

log = structlog.get_logger()

GATHERING_SECONDS = 0.02
"""What ends within that time is written down together, and what follows is claimed together."""
_OUTCOMES: dict[type[Outcome], str] = {
    Delivered: "delivered",
    Retry: "retried",
    GivenUp: "given_up",
}


class Deliveries(Protocol):
    async def claim(self, room: Room, busy: Sequence[Busy], lease_seconds: float) -> list[Due]: ...
    async def record(self, told: Sequence[Told], patience: Patience) -> list[Disabled]: ...


class Sends(Protocol):
    async def send(self, due: Due) -> Answer: ...
    async def close(self) -> None: ...


class Courier:
    """A part of the process that is swept again and again; its requests outlive a sweep. Several
    replicas share what is due.

    Killed, it delays what it had in hand until the lease of each has passed; what it had sent and
    not written down is sent again.
    """

    def __init__(
        self,
        store: Deliveries,
        sender: Sends,
        policy: RetryPolicy,
        limits: ConcurrencyLimits,
        *,
        lease_seconds: float,
        interval_seconds: float,
        stop_seconds: float,
        patience: Patience,
    ) -> None:
        self._store = store
        self._sender = sender
        self._policy = policy
        self._limits = limits
        self._lease_seconds = lease_seconds
        self._interval_seconds = interval_seconds
        self._stop_seconds = stop_seconds
        self._patience = patience
        self._requests: set[asyncio.Task[None]] = set()
        self._ended: list[Told] = []
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Nothing to do: it works when it is swept."""

    def trouble(self) -> str | None:
        return None

    def wake(self) -> None:
        """There is something to deliver: don't wait for the interval."""
        self._changed.set()

    async def sweep(self) -> int:
        """Write down what has ended, begin what is due, and wait until something changes. Raises
        DatabaseUnavailable: what has ended is kept, and written down later.
        """
        self._changed.clear()
        await self._record()
        await self._begin()
        await self._wait()
        return 1

    async def stop(self) -> None:
        """Requests under way may end, within their time; then what came of them is written down."""
        if self._requests:
            _, late = await asyncio.wait(self._requests, timeout=self._stop_seconds)
            for request in late:
                request.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with suppress(Unavailable):  # they are sent again
            await self._record()
        await self._sender.close()

    async def _record(self) -> None:
        if not (told := list(self._ended)):
            return
        for disabled in await self._store.record(told, self._patience):
            metrics.WEBHOOKS_DISABLED.labels(disabled.reason).inc()
            log.warning(
                "webhook_disabled",
                webhook_id=disabled.webhook_id,
                workspace_id=disabled.workspace_id,
                reason=disabled.reason,
            )
        del self._ended[: len(told)]

    async def _begin(self) -> None:
        if (room := self._limits.room).most <= 0:
            return
        for due in await self._store.claim(room, self._limits.busy, self._lease_seconds):
            self._limits.acquire(due)
            request = asyncio.create_task(self._attempt(due))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval_seconds):
                await self._changed.wait()
            await asyncio.sleep(GATHERING_SECONDS)

    async def _attempt(self, due: Due) -> None:
        started = time.monotonic()
        try:
            answer = await self._send(due)
            outcome = decide(answer, due.tries, self._policy, random.random)
            self._ended.append(told_of(due, outcome))
            metrics.WEBHOOK_ATTEMPTS.labels(_OUTCOMES[type(outcome)]).inc()
            metrics.WEBHOOK_SECONDS.observe(time.monotonic() - started)
        finally:
            self._limits.release(due)
            self._changed.set()

    async def _send(self, due: Due) -> Answer:
        try:
            return await self._sender.send(due)
        except Exception:
            log.exception("delivery_broke", webhook_id=due.webhook_id, delivery_id=due.delivery_id)
            return Answer(None, "could not be sent: something broke on our side")


def told_of(due: Due, outcome: Outcome) -> Told:
    answer = outcome.answer
    status, pause, gone = _became(outcome)
    return Told(
        due.webhook_id,
        due.delivery_id,
        due.tries,
        status,
        int(pause * 1000),
        answer.status_code,
        answer.error,
        gone,
    )


def _became(outcome: Outcome) -> tuple[DeliveryStatus, float, bool]:
    match outcome:
        case Delivered():
            return DeliveryStatus.DELIVERED, 0.0, False
        case Retry(seconds=seconds):
            return DeliveryStatus.PENDING, seconds, False
        case GivenUp(gone=gone):
            return DeliveryStatus.FAILED, 0.0, gone
    assert_never(outcome)
