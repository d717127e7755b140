"""Counts requests in flight. The claim of due deliveries uses the counts."""

from collections import Counter
from uuid import UUID

from services.webhooks.delivery.model import Capacity, ClaimedDelivery, InFlight


class InFlightCounts:
    """Counts requests in flight, and computes how many more may begin.

    There are limits in total, per webhook, per workspace, and for all failing webhooks together. So
    receivers that hang until the timeout can't occupy more than their limits. Nothing waits or is
    rejected here: the SQL that claims deliveries takes no more than the capacity. Postgres stores
    which webhooks fail, for all replicas and across restarts.
    """

    def __init__(
        self, limit: int, *, per_webhook: int, per_workspace: int, failing_limit: int
    ) -> None:
        self._limit = limit
        self._per_webhook = per_webhook
        self._per_workspace = per_workspace
        self._failing_limit = failing_limit
        self._requests: Counter[tuple[UUID, UUID]] = Counter()
        self._failing = 0

    @property
    def capacity(self) -> Capacity:
        free = self._limit - self._requests.total()
        return Capacity(
            free=free,
            free_failing=min(free, self._failing_limit - self._failing),
            per_webhook=self._per_webhook,
            per_workspace=self._per_workspace,
        )

    @property
    def by_webhook(self) -> list[InFlight]:
        return [InFlight(*ids, requests) for ids, requests in self._requests.items()]

    def add(self, delivery: ClaimedDelivery) -> None:
        """Counts a claimed delivery."""
        self._requests[delivery.webhook_id, delivery.workspace_id] += 1
        self._failing += delivery.is_failing

    def remove(self, delivery: ClaimedDelivery) -> None:
        """Stops counting a delivery after its request ended."""
        ids = delivery.webhook_id, delivery.workspace_id
        self._requests[ids] -= 1
        if not self._requests[ids]:
            del self._requests[ids]
        self._failing -= delivery.is_failing
