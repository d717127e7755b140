"""What the publisher finds rather than is told: schedules that are due, events that wait in the
outbox.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from services.publisher.model import Failure, failure_of
from services.publisher.pin_events import OutboxEvent, outbox_record
from services.publisher.rows.repository import PinStore
from shared.access.model import BoardCheck, Destination
from shared.access.repository import AccessRepository
from shared.kafka.producer import RecordSender
from shared.postgres.row import Row


class Scheduler:
    """Publishes what is due; an account or board that has gone since fails the pin, not the row
    (its outcome stands).
    """

    def __init__(self, store: PinStore, access: AccessRepository, limit: int) -> None:
        self._store = store
        self._access = access
        self._limit = limit

    async def sweep(self) -> int:
        return await self._store.publish_due(self._limit, self._check)

    async def _check(self, due: Sequence[Row]) -> Mapping[UUID, Failure]:
        by_destination: dict[Destination, list[UUID]] = defaultdict(list)
        for pin in due:
            by_destination[
                Destination(pin["workspace_id"], pin["account_id"], pin["board_id"])
            ].append(pin["pin_id"])
        checks = await self._access.check_boards(by_destination.keys())
        return {
            pin_id: failure_of(check, destination)
            for destination, check in checks.items()
            if check is not BoardCheck.KNOWN
            for pin_id in by_destination[destination]
        }


class OutboxSweeper:
    """Produces the events that wait: at least once, the oldest first."""

    def __init__(self, store: PinStore, producer: RecordSender, topic: str, limit: int) -> None:
        self._store = store
        self._producer = producer
        self._topic = topic
        self._limit = limit

    async def sweep(self) -> int:
        return await self._store.take_events(self._limit, self._deliver)

    async def _deliver(self, events: Sequence[OutboxEvent]) -> None:
        await self._producer.send(self._topic, [outbox_record(event) for event in events])
