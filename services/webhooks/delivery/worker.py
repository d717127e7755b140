"""Claims due deliveries, sends them and records the results.

Delivery is at-least-once and unordered.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from services.webhooks.delivery.in_flight import InFlightCounts
from services.webhooks.delivery.model import (
    AttemptResult,
    Capacity,
    ClaimedDelivery,
    DisabledWebhook,
    InFlight,
    ReceiverResponse,
)
from services.webhooks.delivery.policy import (
    DeliveryFailed,
    DeliverySucceeded,
    DisablePolicy,
    RetryPolicy,
    RetryScheduled,
    SendOutcome,
    build_attempt_result,
    decide,
)
from shared.contract.errors import Unavailable
from shared.runtime import metrics

log = structlog.get_logger()

COLLECT_SECONDS = 0.02
"""Time to collect results. They are recorded together, then the next deliveries are claimed."""
_OUTCOME_LABELS: dict[type[SendOutcome], str] = {
    DeliverySucceeded: "delivered",
    RetryScheduled: "retried",
    DeliveryFailed: "given_up",
}


class DeliveryStore(Protocol):
    async def claim(
        self, capacity: Capacity, in_flight: Sequence[InFlight], claim_seconds: float
    ) -> list[ClaimedDelivery]: ...
    async def record(
        self, results: Sequence[AttemptResult], policy: DisablePolicy
    ) -> list[DisabledWebhook]: ...


class DeliverySender(Protocol):
    async def send(self, delivery: ClaimedDelivery) -> ReceiverResponse: ...
    async def close(self) -> None: ...


class DeliveryWorker:
    """Delivers in rounds. Requests may outlast a round. Replicas share the due deliveries.

    If the process is killed, its claimed deliveries become due again when their claims expire. A
    delivery that was sent but not recorded is sent again.
    """

    def __init__(
        self,
        store: DeliveryStore,
        sender: DeliverySender,
        retry_policy: RetryPolicy,
        in_flight: InFlightCounts,
        *,
        claim_seconds: float,
        interval_seconds: float,
        stop_seconds: float,
        disable_policy: DisablePolicy,
    ) -> None:
        self._store = store
        self._sender = sender
        self._retry_policy = retry_policy
        self._in_flight = in_flight
        self._claim_seconds = claim_seconds
        self._interval_seconds = interval_seconds
        self._stop_seconds = stop_seconds
        self._disable_policy = disable_policy
        self._requests: set[asyncio.Task[None]] = set()
        self._results: list[AttemptResult] = []
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Does nothing. The periodic task calls `run_round`."""

    def problem(self) -> str | None:
        return None

    def wake(self) -> None:
        """Starts the next round now, because a delivery may be due."""
        self._changed.set()

    async def run_round(self) -> int:
        """Records results, starts due deliveries, and waits for a change or the interval.

        Returns 1, so that the next round begins at once. Raises DatabaseUnavailable: a later round
        then records the results.
        """
        self._changed.clear()
        await self._record()
        await self._start_due()
        await self._wait_for_change()
        return 1

    async def stop(self) -> None:
        """Waits for requests in flight up to the stop timeout, and records their results."""
        if self._requests:
            _, unfinished = await asyncio.wait(self._requests, timeout=self._stop_seconds)
            for request in unfinished:
                request.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        with suppress(Unavailable):  # unrecorded deliveries are sent again
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

    async def _start_due(self) -> None:
        capacity = self._in_flight.capacity
        if capacity.free <= 0:
            return
        by_webhook = self._in_flight.by_webhook
        for delivery in await self._store.claim(capacity, by_webhook, self._claim_seconds):
            self._in_flight.add(delivery)
            request = asyncio.create_task(self._attempt(delivery))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    async def _wait_for_change(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval_seconds):
                await self._changed.wait()
            await asyncio.sleep(COLLECT_SECONDS)

    async def _attempt(self, delivery: ClaimedDelivery) -> None:
        started = time.monotonic()
        try:
            response = await self._send(delivery)
            outcome = decide(response, delivery.tries, self._retry_policy, random.random)
            self._results.append(build_attempt_result(delivery, outcome))
            metrics.WEBHOOK_ATTEMPTS.labels(_OUTCOME_LABELS[type(outcome)]).inc()
            metrics.WEBHOOK_SECONDS.observe(time.monotonic() - started)
        finally:
            self._in_flight.remove(delivery)
            self._changed.set()

    async def _send(self, delivery: ClaimedDelivery) -> ReceiverResponse:
        try:
            return await self._sender.send(delivery)
        except Exception:
            log.exception(
                "delivery_attempt_crashed",
                webhook_id=delivery.webhook_id,
                delivery_id=delivery.delivery_id,
            )
            return ReceiverResponse(None, "not sent: internal error in Pinflow")
