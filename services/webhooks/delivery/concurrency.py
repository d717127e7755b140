"""How many requests are under way, to whom, and who may have more."""

from collections import Counter
from uuid import UUID

from services.webhooks.delivery.repository import Busy, Due, Room


class Slots:
    """`most` at once; of one webhook `each`, of one workspace `each_workspace`, of all webhooks
    that fail `failing`: who hangs until the timeout holds up no more than that. Who fails is
    Postgres' to know: for all replicas, and after a start.
    """

    def __init__(self, most: int, *, each: int, each_workspace: int, failing: int) -> None:
        self._most = most
        self._each = each
        self._each_workspace = each_workspace
        self._most_failing = failing
        self._busy: Counter[tuple[UUID, UUID]] = Counter()
        self._failing = 0

    @property
    def room(self) -> Room:
        free = self._most - self._busy.total()
        return Room(
            free, min(free, self._most_failing - self._failing), self._each, self._each_workspace
        )

    @property
    def busy(self) -> list[Busy]:
        return [Busy(*whose, requests) for whose, requests in self._busy.items()]

    def take(self, due: Due) -> None:
        self._busy[due.webhook_id, due.workspace_id] += 1
        self._failing += due.failing

    def give_back(self, due: Due) -> None:
        whose = due.webhook_id, due.workspace_id
        self._busy[whose] -= 1
        if not self._busy[whose]:
            del self._busy[whose]
        self._failing -= due.failing
