"""Consumes events and queues a delivery for each subscribed webhook.

Most events belong to workspaces without webhooks. They are not decoded.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeAlias
from uuid import UUID

from aiokafka import ConsumerRecord

from services.webhooks.delivery.matching import build_deliveries
from services.webhooks.delivery.model import EnabledWebhook, NewDelivery
from services.webhooks.payloads import WebhookEvent, read_event
from shared.contract.errors import ErrorCode, Poison
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance
from shared.runtime.chunks import chunked

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

MAX_DECODED_RECORDS = 1000
"""Records decoded between two writes. Decoding them takes 10 ms."""
INVALID_KEY = Poison(ErrorCode.INVALID_RECORD, "The record's key is not a workspace id.")


class DeliveryQueue(Protocol):
    async def enabled_webhooks(
        self, workspace_ids: Collection[UUID]
    ) -> dict[UUID, list[EnabledWebhook]]: ...
    async def enqueue(self, deliveries: Sequence[NewDelivery], advance: Advance) -> int: ...


class Wakeable(Protocol):
    def wake(self) -> None: ...


class EventHandler:
    """Queues the deliveries of a batch.

    Reads the webhooks after each fetch and never caches them. So a webhook that existed when an
    event was produced is always found.
    """

    def __init__(self, queue: DeliveryQueue, worker: Wakeable) -> None:
        self._queue = queue
        self._worker = worker

    def decode(self, records: Batch) -> tuple[list[Record], list[DeadLetter]]:
        """Returns the records unchanged: `process` decodes them.

        `process` first reads the enabled webhooks from the database. It decodes only the events of
        their workspaces.
        """
        return list(records), []

    async def process(
        self, decoded: list[Record], _poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        workspaces, dead_letters = _read_keys(decoded)
        webhooks = await self._queue.enabled_webhooks(workspaces.values())
        subscribed = {
            key: workspace_id
            for key, workspace_id in workspaces.items()
            if workspace_id in webhooks
        }
        records = [record for record in decoded if record.key in subscribed]
        for chunk in chunked(records, MAX_DECODED_RECORDS):
            events, unreadable = _read_events(chunk, subscribed)
            dead_letters += unreadable
            if await self._queue.enqueue(build_deliveries(events, webhooks), advance):
                self._worker.wake()
        return dead_letters


def _read_keys(records: Sequence[Record]) -> tuple[dict[bytes | None, UUID], list[DeadLetter]]:
    """Parses each key once. Returns workspaces by key, and dead letters for invalid keys."""
    workspaces: dict[bytes | None, UUID] = {}
    unreadable: set[bytes | None] = set()
    for key in {record.key for record in records}:
        try:
            workspaces[key] = UUID((key or b"").decode())
        except ValueError:
            unreadable.add(key)
    if not unreadable:
        return workspaces, []
    return workspaces, [
        DeadLetter(record, INVALID_KEY) for record in records if record.key in unreadable
    ]


def _read_events(
    records: Sequence[Record], workspaces: Mapping[bytes | None, UUID]
) -> tuple[list[WebhookEvent], list[DeadLetter]]:
    events, dead_letters = [], []
    for record in records:
        workspace_id, value = workspaces[record.key], record.value or b""
        try:
            event = read_event(workspace_id, record.headers, value, record.timestamp)
        except Poison as reason:
            dead_letters.append(DeadLetter(record, reason))
        else:
            if event is not None:
                events.append(event)
    return events, dead_letters
