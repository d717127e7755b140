"""Events come in; for each webhook that wants one a delivery is written down.

Most events are nobody's, and are not looked at.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Protocol, TypeAlias
from uuid import UUID

from aiokafka import ConsumerRecord

from services.webhooks.delivery.model import NewDelivery, Subscription
from services.webhooks.events import announcement
from services.webhooks.ids import delivery_id
from shared.contract.errors import ErrorCode, Poison
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance
from shared.runtime.chunks import chunked

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

Wanted: TypeAlias = Mapping[bytes, tuple[UUID, Sequence[Subscription]]]

READ_AT_ONCE = 1000
"""Records after which others get a turn: 10 ms if all of them are wanted."""
WRITTEN_AT_ONCE = 5000
"""Deliveries of one transaction."""
NO_WORKSPACE = Poison(ErrorCode.INVALID_RECORD, "its key is no workspace's id")
CLOCKS_DIFFER = timedelta(minutes=5)
"""A webhook is told of nothing older than itself, as far as clocks agree: one that is made while
the service is behind, or reads the topics for the first time, would be told of a week.
"""


class Outgoing(Protocol):
    async def active_subscriptions(
        self, workspace_ids: Collection[UUID]
    ) -> dict[UUID, list[Subscription]]: ...
    async def enqueue(self, deliveries: Sequence[NewDelivery], advance: Advance) -> int: ...


class Wakes(Protocol):
    def wake(self) -> None: ...


class EventHandler:
    """Asks the database, for each batch, which of its workspaces have webhooks: after the batch has
    come, so that a webhook that was there when an event was produced is seen, whatever the clocks
    say, and nobody has to remember any.
    """

    def __init__(self, store: Outgoing, worker: Wakes) -> None:
        self._store = store
        self._worker = worker

    def decode(self, records: Batch) -> tuple[list[Record], list[DeadLetter]]:
        return list(records), []  # nothing is decoded before it is known that somebody wants it

    async def process(
        self, decoded: list[Record], _poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        workspaces, unreadable = _workspaces_of({record.key for record in decoded})
        letters = (
            [DeadLetter(one, NO_WORKSPACE) for one in decoded if one.key in unreadable]
            if unreadable
            else []
        )
        listening = await self._store.active_subscriptions(workspaces.values())
        wanted = {key: (one, listening[one]) for key, one in workspaces.items() if one in listening}
        if wanted:
            for portion in chunked(decoded, READ_AT_ONCE):
                letters += await self._write_down(portion, wanted, advance)
        return letters

    async def _write_down(
        self, records: Sequence[Record], wanted: Wanted, advance: Advance
    ) -> list[DeadLetter]:
        # A replay may find two announcements of an event in one batch: the first one's id counts
        deliveries: dict[tuple[UUID, str], NewDelivery] = {}
        letters = []
        for record in records:
            if (whose := wanted.get(record.key)) is None:
                continue
            try:
                for delivery in self._deliveries(record, *whose):
                    deliveries.setdefault((delivery.webhook_id, delivery.event_id), delivery)
            except Poison as reason:
                letters.append(DeadLetter(record, reason))
        new = 0
        for portion in chunked(list(deliveries.values()), WRITTEN_AT_ONCE):
            new += await self._store.enqueue(portion, advance)
        if new:
            self._worker.wake()
        return letters

    def _deliveries(
        self, record: Record, workspace_id: UUID, listeners: Sequence[Subscription]
    ) -> Iterator[NewDelivery]:
        told = announcement(workspace_id, record.headers, record.value or b"")
        if told is None:
            return
        for listener in listeners:
            if (
                told.name in listener.events
                and record.timestamp / 1000 >= (listener.created_at - CLOCKS_DIFFER).timestamp()
            ):
                known_by = delivery_id(listener.webhook_id, told.event_id, record.timestamp)
                yield NewDelivery(
                    listener.webhook_id, known_by, told.event_id, told.name, told.body
                )


def _workspaces_of(keys: Collection[bytes | None]) -> tuple[dict[bytes, UUID], set[bytes | None]]:
    """The workspace that each key names, and the keys that name none."""
    found: dict[bytes, UUID] = {}
    unreadable: set[bytes | None] = set()
    for key in keys:
        try:
            found[key or b""] = UUID((key or b"").decode())
        except ValueError:
            unreadable.add(key)
    return found, unreadable
