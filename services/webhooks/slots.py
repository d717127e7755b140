"""How many requests are under way, to whom, and who may have more."""

from collections import Counter
from uuid import UUID

from services.webhooks.repository import Room

MOST_FAILING = 10_000


class Slots:
    """`most` at once; of one webhook `most_each`, but only one while it fails: who hangs until the timeout holds up no more than that."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self.most_each = most_each
        self._busy: Counter[UUID] = Counter()
        self._failing: set[UUID] = set()

    @property
    def free(self) -> int:
        return self._most - self._busy.total()

    def take(self, webhook_id: UUID) -> None:
        self._busy[webhook_id] += 1

    def give_back(self, webhook_id: UUID, *, failed: bool) -> None:
        self._busy[webhook_id] -= 1
        if not self._busy[webhook_id]:
            del self._busy[webhook_id]
        if not failed:
            self._failing.discard(webhook_id)
        elif len(self._failing) < MOST_FAILING:
            self._failing.add(webhook_id)

    def rooms(self) -> list[Room]:
        """Of the webhooks that may not have `most_each` more."""
        return [self._room(webhook_id) for webhook_id in self._busy.keys() | self._failing]

    def _room(self, webhook_id: UUID) -> Room:
        busy = self._busy[webhook_id]
        most = 1 if webhook_id in self._failing else self.most_each
        return Room(webhook_id, busy, max(0, most - busy))
