"""Runs a real consumer with a handler that records its batches."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import ConsumerRecord

from shared.contract.errors import ErrorCode, Poison
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import leave_group
from shared.kafka.batches import Batch
from shared.kafka.consumer import BatchConsumer
from shared.kafka.consumer_health.stalls import STALLED_AFTER_SECONDS
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.pause_when_unused import always
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.preparation import Preparation
from shared.kafka.positions.store import PositionStore
from shared.kafka.producer import RecordProducer, RecordSender
from shared.kafka.records import Record
from shared.kafka.subscription import Acknowledgement, RecordFilter, Subscription
from shared.runtime.settings import ServiceSettings
from tests.support.kafka import read_records

TOPIC = TopicName.OUTCOMES


class Handler:
    """Records the batches and the values that it handled. Calls `before` ahead of each batch.

    A value that begins with `poison` is unreadable.
    """

    def __init__(self, before: Callable[[list[bytes]], Any] | None = None) -> None:
        self.done: list[bytes] = []
        self.batches: list[list[bytes]] = []
        self._before = before

    def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
        poison = [
            DeadLetter(record, Poison(ErrorCode.INVALID_RECORD, "unreadable"))
            for record in records
            if _is_poison(record)
        ]
        return [record.value or b"" for record in records if not _is_poison(record)], poison

    async def process(
        self, decoded: list[bytes], _poison: list[DeadLetter], _advance: Advance
    ) -> list[DeadLetter]:
        self.batches.append(decoded)
        if self._before is not None:
            await self._before(decoded)
        self.done += decoded
        return []


def _is_poison(record: "ConsumerRecord[bytes, bytes]") -> bool:
    return (record.value or b"").startswith(b"poison")


def build_subscription(
    name: str = "unit",
    *topics: TopicName,
    has_positions: bool = False,
    max_records: int = 2000,
    record_filter: RecordFilter | None = None,
) -> Subscription:
    """Builds a subscription to the topics, by default to OUTCOMES.

    The subscription has the isolation level that the services use for these topics.
    """
    topics = topics or (TOPIC,)
    ack = Acknowledgement
    return Subscription(
        name=name,
        topics=topics,
        isolation=("read_committed" if TopicName.IMPORT_REQUESTS in topics else "read_uncommitted"),
        offset_reset="none" if has_positions else "earliest",
        acknowledgement=ack.POSITION_WITH_WORK if has_positions else ack.OFFSET_AFTER_WORK,
        max_records=max_records,
        record_filter=record_filter,
    )


@asynccontextmanager
async def consuming(
    settings: ServiceSettings,
    producer: RecordSender,
    handler: Handler,
    *,
    name: str,
    clean: bool = True,
    member: int = 0,
    is_wanted: Callable[[], Awaitable[bool]] = always,
    topics: Sequence[TopicName] = (TOPIC,),
    record_filter: RecordFilter | None = None,
    stalled_after_seconds: float = STALLED_AFTER_SECONDS,
    positions: PositionStore | None = None,
    preparation: Preparation | None = None,
) -> AsyncIterator[BatchConsumer]:
    consumer = BatchConsumer(
        build_subscription(
            name,
            *topics,
            record_filter=record_filter,
            has_positions=positions is not None,
            max_records=settings.consumer_max_records,
        ),
        settings,
        handler,
        producer,
        member=member,
        is_wanted=is_wanted,
        stalled_after_seconds=stalled_after_seconds,
        positions=positions,
        preparation=preparation,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
        if clean:
            await leave_group(settings, consumer.group, consumer.group_instance_id)


async def produce(
    producer: RecordProducer,
    settings: ServiceSettings,
    values: Sequence[bytes],
    *,
    headers: list[Any] | None = None,
    topic: TopicName = TOPIC,
) -> None:
    """Sends the values. Each has a key of its own, so they spread over the partitions."""
    records = [Record(value, value, headers or []) for value in values]
    await producer.send(TopicNames(settings.topic_prefix)[topic], records)


def make_values(prefix: str, count: int = 60) -> list[bytes]:
    return [f"{prefix}-{number}".encode() for number in range(count)]


def select_by_prefix(prefix: str, values: Sequence[bytes]) -> list[bytes]:
    """Returns the values of one test. All tests of a module share the topic."""
    return [value for value in values if value.startswith(prefix.encode())]


async def read_dead_letters(settings: ServiceSettings) -> list["ConsumerRecord[bytes, bytes]"]:
    return await read_records(
        settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.DEAD_LETTERS
    )
