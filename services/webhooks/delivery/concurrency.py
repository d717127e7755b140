"""Counts the requests under way, as the claim of due deliveries needs it."""

from collections import Counter
from uuid import UUID

from services.webhooks.delivery.repository import Busy, Due, Room


class ConcurrencyLimits:
    """Limits requests at once: `limit` in all, `each` to one webhook, `each_workspace` of one
    workspace, and `failing` to all webhooks that fail.

    So receivers that hang until the timeout hold up no more than these. Nothing waits or is refused
    here: the statement that claims deliveries takes no more than there is room for. Postgres knows
    which webhooks fail, for all replicas and after a restart.
    """

    def __init__(self, limit: int, *, each: int, each_workspace: int, failing: int) -> None:
        self._limit = limit
        self._each = each
        self._each_workspace = each_workspace
        self._failing_limit = failing
        self._busy: Counter[tuple[UUID, UUID]] = Counter()
        self._failing = 0

    @property
    def room(self) -> Room:
        free = self._limit - self._busy.total()
        return Room(
            free, min(free, self._failing_limit - self._failing), self._each, self._each_workspace
        )

    @property
    def busy(self) -> list[Busy]:
        return [Busy(*ids, requests) for ids, requests in self._busy.items()]

    def acquire(self, due: Due) -> None:
        """Counts a delivery that was claimed."""
        self._busy[due.webhook_id, due.workspace_id] += 1
        self._failing += due.failing

    def release(self, due: Due) -> None:
        """Counts it no longer: its request has ended."""
        ids = due.webhook_id, due.workspace_id
        self._busy[ids] -= 1
        if not self._busy[ids]:
            del self._busy[ids]
        self._failing -= due.failing
