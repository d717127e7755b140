"""Counts the requests in flight, as the claim of due deliveries needs it."""

from collections import Counter
from uuid import UUID

from services.webhooks.delivery.model import Capacity, ClaimedDelivery, InFlight


class ConcurrencyLimits:
    """Limits requests at once: `limit` in all, `each` to one webhook, `each_workspace` of one
    workspace, and `failing` to all webhooks that fail.

    So receivers that hang until the timeout hold up no more than these. Nothing waits or is refused
    here: the statement that claims deliveries takes no more than the capacity. Postgres knows
    which webhooks fail, for all replicas and after a restart.
    """

    def __init__(self, limit: int, *, each: int, each_workspace: int, failing: int) -> None:
        self._limit = limit
        self._each = each
        self._each_workspace = each_workspace
        self._failing_limit = failing
        self._requests: Counter[tuple[UUID, UUID]] = Counter()
        self._failing = 0

    @property
    def capacity(self) -> Capacity:
        free = self._limit - self._requests.total()
        return Capacity(
            free=free,
            free_failing=min(free, self._failing_limit - self._failing),
            per_webhook=self._each,
            per_workspace=self._each_workspace,
        )

    @property
    def in_flight(self) -> list[InFlight]:
        return [InFlight(*ids, requests) for ids, requests in self._requests.items()]

    def acquire(self, delivery: ClaimedDelivery) -> None:
        """Counts a delivery that was claimed."""
        self._requests[delivery.webhook_id, delivery.workspace_id] += 1
        self._failing += delivery.failing

    def release(self, delivery: ClaimedDelivery) -> None:
        """Stops counting a delivery whose request has ended."""
        ids = delivery.webhook_id, delivery.workspace_id
        self._requests[ids] -= 1
        if not self._requests[ids]:
            del self._requests[ids]
        self._failing -= delivery.failing
