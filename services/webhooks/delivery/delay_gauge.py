"""Measures how late due deliveries are."""

from services.webhooks.delivery.repository import DeliveryRepository
from shared.runtime import metrics

MEASURE_INTERVAL_SECONDS = 10.0


class DeliveryDelayGauge:
    """Sets the metric for how long the oldest due delivery has been due."""

    def __init__(self, store: DeliveryRepository) -> None:
        self._store = store

    async def measure(self) -> int:
        metrics.WEBHOOK_OLDEST_DUE_SECONDS.set(await self._store.oldest_due_seconds())
        return 0
