"""A group's lag, read from a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.consumer_health import health as health_module
from shared.kafka.lag import GroupOffsets, LagReader
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import RecordFilter
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, consuming, make_values, produce
from tests.support.waiting import eventually


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> ServiceSettings:
    return ServiceSettings(kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix)


@pytest.fixture
def topic(settings: ServiceSettings) -> str:
    return TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]


@pytest_asyncio.fixture(loop_scope="module")
async def producer(settings: ServiceSettings) -> AsyncIterator[RecordProducer]:
    producer = RecordProducer(settings, client_id="test")
    await producer.start()
    yield producer
    await producer.stop()


@asynccontextmanager
async def reading(settings: ServiceSettings, topic: str, group: str) -> AsyncIterator[LagReader]:
    reader = LagReader(settings, topic=topic, group=group, client_id="test-backlog")
    try:
        yield reader
    finally:
        await reader.close()


async def read_offsets(reader: LagReader) -> GroupOffsets | None:
    """Reads the offsets. Returns None while a new broker is still creating __consumer_offsets."""
    try:
        return await reader.read()
    except BrokerUnavailable:
        return None


async def test_without_a_commit_the_lag_is_the_whole_log(
    settings: ServiceSettings, topic: str, producer: RecordProducer
) -> None:
    async with reading(settings, topic, f"group-{uuid4()}") as reader:
        before = await eventually(lambda: read_offsets(reader))
        assert sorted(before.committed) == sorted(before.ends) == list(range(6))
        await produce(producer, settings, make_values("a", 60))
        after = await reader.read()
        assert sum(after.ends.values()) - sum(before.ends.values()) == 60
        assert after.committed == before.committed == dict.fromkeys(range(6), 0)


async def test_committed_offsets_are_read_without_joining_the_group(
    settings: ServiceSettings, topic: str, producer: RecordProducer
) -> None:
    group = f"group-{uuid4()}"
    await produce(producer, settings, make_values("b", 60))
    async with reading(settings, topic, group) as reader:
        await eventually(lambda: read_offsets(reader))
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group_id=group,
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 3)])
            await consumer.commit(
                {TopicPartition(topic, 3): 2}
            )  # Kafka would refuse this if the reader were a member
        finally:
            await consumer.stop()
        offsets = await reader.read()
        assert offsets.committed == {**dict.fromkeys(range(6), 0), 3: 2}


async def abort(settings: ServiceSettings, topic: str, rows: int) -> None:
    """Produces rows in a transaction, and aborts the transaction."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=f"test-{uuid4()}"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for number in range(rows):
            await producer.send_and_wait(topic, b"aborted", key=str(number).encode())
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def has_no_lag(reader: LagReader) -> bool:
    offsets = await read_offsets(reader)
    return offsets is not None and offsets.committed == offsets.ends


async def test_invariant_9_aborted_transactions_leave_no_lag(
    settings: ServiceSettings,
    producer: RecordProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Aborted records are in no batch, but the lag still returns to zero."""
    monkeypatch.setattr(health_module, "KAFKA_CHECK_SECONDS", 0.2)
    handler, requests = Handler(), TopicName.IMPORT_REQUESTS
    topic = TopicNames(settings.topic_prefix)[requests]
    async with (
        consuming(settings, producer, handler, name="aborted", topics=[requests]) as consumer,
        reading(settings, topic, consumer.group) as reader,
    ):
        watching = asyncio.create_task(consumer.watch())
        await produce(producer, settings, make_values("before"), topic=requests)
        await abort(settings, topic, 60)
        await eventually(lambda: has_no_lag(reader))
        assert b"aborted" not in handler.done
        assert set(make_values("before")) <= set(handler.done)
        watching.cancel()


async def test_invariant_9_filtered_records_leave_no_lag(
    settings: ServiceSettings,
    topic: str,
    producer: RecordProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Filtered records are in no batch. Without commits, they would be backlog forever."""
    monkeypatch.setattr(health_module, "KAFKA_CHECK_SECONDS", 0.2)
    handler, wanted = (
        Handler(),
        RecordFilter(topic, lambda value: (value or b"").startswith(b"mine")),
    )
    async with (
        consuming(settings, producer, handler, name="skips", record_filter=wanted) as consumer,
        reading(settings, topic, consumer.group) as reader,
    ):
        watching = asyncio.create_task(consumer.watch())
        await produce(producer, settings, [*make_values("mine"), *make_values("not-mine")])
        await eventually(lambda: set(make_values("mine")) <= set(handler.done))
        await produce(producer, settings, make_values("not-mine"))
        await eventually(lambda: has_no_lag(reader))
        assert set(handler.done) == set(make_values("mine"))
        watching.cancel()


async def test_a_member_that_lost_all_partitions_continues(
    settings: ServiceSettings, producer: RecordProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to commit any more, and aiokafka refuses an empty commit."""
    monkeypatch.setattr(health_module, "KAFKA_CHECK_SECONDS", 0.1)
    calls = 0

    async def nothing() -> dict[TopicPartition, int]:
        nonlocal calls
        calls += 1
        return {}

    async with consuming(settings, producer, Handler(), name="no-partitions") as consumer:
        watching = asyncio.create_task(consumer.watch())
        await eventually(lambda: consumer.idle_committer.committed)
        monkeypatch.setattr(consumer.progress, "processed_offsets", nothing)
        await eventually(lambda: calls > 2 or watching.done())
        assert not watching.done()
        watching.cancel()


async def test_a_missing_broker_or_topic_raises_unavailable_within_the_timeout(
    settings: ServiceSettings, topic: str
) -> None:
    unreachable = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    async with (
        asyncio.timeout(30),
        reading(unreachable, topic, "group") as away,
        reading(settings, f"{topic}-missing", "group") as missing,
    ):
        for reader in (away, away, missing):  # twice: a reader can be used again after a failure
            with pytest.raises(BrokerUnavailable):
                await reader.read()
