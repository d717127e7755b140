"""Deletes old deliveries."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from services.webhooks.delivery.repository import DeliveryRepository
from services.webhooks.ids import compute_lowest_id

DELETE_INTERVAL_SECONDS = 60.0
MAX_DELETED_DELIVERIES = 5000
"""Maximum deliveries that one transaction deletes."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DeliveryRetention:
    """Deletes deliveries after their retention time, in chunks of one transaction each.

    Replicas may run this at the same time: if two find the same deliveries, the second waits.
    """

    def __init__(
        self,
        store: DeliveryRepository,
        retention: timedelta,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store = store
        self._retention = retention
        self._clock = clock

    async def delete_old_deliveries(self) -> int:
        """Deletes one chunk. Returns the number of deleted deliveries."""
        oldest_kept = compute_lowest_id(self._clock() - self._retention)
        return await self._store.delete_old(oldest_kept, MAX_DELETED_DELIVERIES)
