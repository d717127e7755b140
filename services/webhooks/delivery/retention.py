"""Deletes old deliveries, and measures how late the others are."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from services.webhooks.delivery.repository import DeliveryRepository
from services.webhooks.ids import lowest_id_of
from shared.runtime import metrics

CLEAN_SECONDS = 60.0
LOOK_SECONDS = 10.0
MAX_CLEANED = 5000


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Cleaner:
    """Deletes in portions, each a transaction of its own.

    Replicas may do so at once: each finds what the others have left.
    """

    def __init__(
        self, store: DeliveryRepository, kept: timedelta, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._store = store
        self._kept = kept
        self._clock = clock

    async def delete_old_deliveries(self) -> int:
        return await self._store.clean(lowest_id_of(self._clock() - self._kept), MAX_CLEANED)


class Lateness:
    """Sets the gauge of how long the longest-waiting delivery has been due."""

    def __init__(self, store: DeliveryRepository) -> None:
        self._store = store

    async def measure(self) -> int:
        metrics.WEBHOOK_OLDEST_DUE_SECONDS.set(await self._store.oldest_due_seconds())
        return 0
