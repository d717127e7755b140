"""Claims due deliveries, sends them and records the results.

Delivers at least once, in no order.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from services.webhooks.delivery.concurrency import ConcurrencyLimits
from services.webhooks.delivery.model import (
    AttemptResult,
    Capacity,
    ClaimedDelivery,
    DisabledWebhook,
    InFlight,
)
from services.webhooks.delivery.policy import (
    Answer,
    Delivered,
    DisablePolicy,
    GivenUp,
    Outcome,
    Retry,
    RetryPolicy,
    attempt_result,
    decide,
)
from shared.contract.errors import Unavailable
from shared.runtime import metrics

log = structlog.get_logger()

GATHERING_SECONDS = 0.02
"""Results of this time are recorded together, and the deliveries that follow claimed together."""
_OUTCOMES: dict[type[Outcome], str] = {
    Delivered: "delivered",
    Retry: "retried",
    GivenUp: "given_up",
}


class Deliveries(Protocol):
    async def claim(
        self, capacity: Capacity, in_flight: Sequence[InFlight], lease_seconds: float
    ) -> list[ClaimedDelivery]: ...
    async def record(
        self, results: Sequence[AttemptResult], policy: DisablePolicy
    ) -> list[DisabledWebhook]: ...


class DeliverySender(Protocol):
    async def send(self, delivery: ClaimedDelivery) -> Answer: ...
    async def close(self) -> None: ...


class DeliveryWorker:
    """Delivers in rounds; its requests outlive a round. Replicas share the due deliveries.

    If the process is killed, its claimed deliveries are due again when their leases have passed.
    What was sent and not recorded is sent again.
    """

    def __init__(
        self,
        store: Deliveries,
        sender: DeliverySender,
        retry_policy: RetryPolicy,
        limits: ConcurrencyLimits,
        *,
        lease_seconds: float,
        interval_seconds: float,
        stop_seconds: float,
        disable_policy: DisablePolicy,
    ) -> None:
        self._store = store
        self._sender = sender
        self._retry_policy = retry_policy
        self._limits = limits
        self._lease_seconds = lease_seconds
        self._interval_seconds = interval_seconds
        self._stop_seconds = stop_seconds
        self._disable_policy = disable_policy
        self._requests: set[asyncio.Task[None]] = set()
        self._results: list[AttemptResult] = []
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Does nothing: `deliver_due` does the work."""

    def problem(self) -> str | None:
        return None

    def wake(self) -> None:
        """Ends the wait for the next round: there is something to deliver."""
        self._changed.set()

    async def deliver_due(self) -> int:
        """Records results, begins what is due, and waits until something changes.

        Raises DatabaseUnavailable. Results are kept then, and recorded by a later round.
        """
        self._changed.clear()
        await self._record()
        await self._begin()
        await self._wait()
        return 1

    async def stop(self) -> None:
        """Lets requests in flight end within the stop timeout, and records their results."""
        if self._requests:
            _, late = await asyncio.wait(self._requests, timeout=self._stop_seconds)
            for request in late:
                request.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with suppress(Unavailable):  # they are sent again
            await self._record()
        await self._sender.close()

    async def _record(self) -> None:
        if not (results := list(self._results)):
            return
        for disabled in await self._store.record(results, self._disable_policy):
            metrics.WEBHOOKS_DISABLED.labels(disabled.reason).inc()
            log.warning(
                "webhook_disabled",
                webhook_id=disabled.webhook_id,
                workspace_id=disabled.workspace_id,
                reason=disabled.reason,
            )
        del self._results[: len(results)]

    async def _begin(self) -> None:
        capacity = self._limits.capacity
        if capacity.free <= 0:
            return
        in_flight = self._limits.in_flight
        for delivery in await self._store.claim(capacity, in_flight, self._lease_seconds):
            self._limits.acquire(delivery)
            request = asyncio.create_task(self._attempt(delivery))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval_seconds):
                await self._changed.wait()
            await asyncio.sleep(GATHERING_SECONDS)

    async def _attempt(self, delivery: ClaimedDelivery) -> None:
        started = time.monotonic()
        try:
            answer = await self._send(delivery)
            outcome = decide(answer, delivery.tries, self._retry_policy, random.random)
            self._results.append(attempt_result(delivery, outcome))
            metrics.WEBHOOK_ATTEMPTS.labels(_OUTCOMES[type(outcome)]).inc()
            metrics.WEBHOOK_SECONDS.observe(time.monotonic() - started)
        finally:
            self._limits.release(delivery)
            self._changed.set()

    async def _send(self, delivery: ClaimedDelivery) -> Answer:
        try:
            return await self._sender.send(delivery)
        except Exception:
            log.exception(
                "delivery_broke",
                webhook_id=delivery.webhook_id,
                delivery_id=delivery.delivery_id,
            )
            return Answer(None, "could not be sent: something broke on our side")
