"""A consumer under a test's control, what it is given, and what it did with it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from aiokafka import ConsumerRecord

from shared.contract.errors import ErrorCode, Poison
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import leave_group
from shared.kafka.broker import create_broker
from shared.kafka.consumer import Batch, BatchConsumer
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.dormancy import always
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.store import PositionStore
from shared.kafka.positions.tracker import Preparation
from shared.kafka.producer import RecordProducer, RecordSender
from shared.kafka.records import Record
from shared.kafka.skipping import RecordFilter
from shared.kafka.stalls import STALLED_AFTER
from shared.runtime.settings import ServiceSettings
from tests.support.kafka import records_of

TOPIC = TopicName.OUTCOMES


class Handler:
    """Remembers what it was given; does to a batch what the test wants.

    A value that begins with `poison` can't be read.
    """

    def __init__(self, before: Callable[[list[bytes]], Any] | None = None) -> None:
        self.done: list[bytes] = []
        self.batches: list[list[bytes]] = []
        self._before = before

    def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
        poison = [
            DeadLetter(one, Poison(ErrorCode.INVALID_RECORD, "unreadable"))
            for one in records
            if _is_poison(one)
        ]
        return [one.value or b"" for one in records if not _is_poison(one)], poison

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
    stalled_after: float = STALLED_AFTER,
    positions: PositionStore | None = None,
    preparation: Preparation | None = None,
) -> AsyncIterator[BatchConsumer]:
    consumer: BatchConsumer = BatchConsumer(
        name,
        settings,
        topics,
        handler,
        producer,
        member=member,
        is_wanted=is_wanted,
        record_filter=record_filter,
        stalled_after=stalled_after,
        positions=positions,
        preparation=preparation,
    )
    broker = create_broker(settings, client_id=f"test-{uuid4().hex[:6]}")
    consumer.subscribe(broker)
    await broker.start()
    try:
        yield consumer
    finally:
        consumer.interrupt()
        await broker.stop()
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
    """One key each, so that they spread over the partitions."""
    records = [Record(value, value, headers or []) for value in values]
    await producer.send(TopicNames(settings.topic_prefix)[topic], records)


def some(prefix: str, count: int = 60) -> list[bytes]:
    return [f"{prefix}-{number}".encode() for number in range(count)]


def of(prefix: str, values: Sequence[bytes]) -> list[bytes]:
    """The topic is shared by the module's tests: only those of one."""
    return [value for value in values if value.startswith(prefix.encode())]


async def letters_of(settings: ServiceSettings) -> list["ConsumerRecord[bytes, bytes]"]:
    return await records_of(
        settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.DEAD_LETTERS
    )
