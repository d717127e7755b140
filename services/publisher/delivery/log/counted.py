"""Counts the outcomes of attempts, and tells them to the topic `deliveries`."""

from services.publisher.delivery.model import AttemptOutcome, DeliveryAttempt
from services.publisher.delivery.ports import DeliveryLog
from shared.runtime import metrics


class CountedDeliveryLog:
    """Implements DeliveryLog with another one, and counts each outcome."""

    def __init__(self, delivery_log: DeliveryLog) -> None:
        self._delivery_log = delivery_log
        for outcome in AttemptOutcome:
            # 0 from the start: an alert on "no attempts" needs a counter that exists
            metrics.DELIVERY_ATTEMPTS.labels(outcome)

    async def require_open(self, connected_at: float) -> None:
        """Raises Unavailable as the other log does."""
        await self._delivery_log.require_open(connected_at)

    async def announce(self, attempt: DeliveryAttempt) -> None:
        """Announces an attempt."""
        await self._delivery_log.announce(attempt)

    async def settle(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> None:
        """Counts the outcome, and tells Kafka."""
        metrics.DELIVERY_ATTEMPTS.labels(outcome).inc()
        await self._delivery_log.settle(attempt, outcome, pinterest_pin_id)
