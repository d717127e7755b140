"""aiokafka's background tasks can end silently. A client without them must be noticed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import CoordinatorNotAvailableError, KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka import aiokafka_internals, batch_processor
from shared.kafka.aiokafka_internals import DISCARD_SECONDS, discard
from shared.kafka.connection import client_options
from shared.kafka.consumer import BatchConsumer
from shared.kafka.consumer_health import health as health_module
from shared.kafka.consumer_health.health import ConsumerLost
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, consuming, make_values, produce, select_by_prefix
from tests.support.kafka import kill_metadata_task, read_records
from tests.support.waiting import eventually


async def test_invariant_9_a_write_to_a_closed_connection_is_a_retriable_error(
    settings: ServiceSettings,
) -> None:
    """uvloop raises RuntimeError for it, which would end the writing task for good."""
    client = AIOKafkaClient(**client_options(settings, client_id="test-closed"))
    await client.bootstrap()
    await client.ready(node := client.get_random_node())
    connection = client._conns[node, ConnectionGroup.DEFAULT]

    def write(_message: bytes) -> None:
        raise RuntimeError(
            "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        )

    connection._writer.write = write
    with pytest.raises(KafkaConnectionError, match="handler is closed"):
        await connection.send(MetadataRequest([]))
    assert not connection.connected()
    await client.close()


@pytest.fixture
async def own(settings: ServiceSettings) -> AsyncIterator[RecordProducer]:
    """A producer that the test may break."""
    producer = RecordProducer(settings, client_id="test-to-break")
    await producer.start()
    yield producer
    await producer.stop()


async def read_outcomes(settings: ServiceSettings) -> list[bytes]:
    return [
        record.value or b""
        for record in await read_records(
            settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.OUTCOMES
        )
    ]


async def test_invariant_9_a_consumer_with_a_dead_client_ends_its_process_at_once(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    async with consuming(settings, producer, Handler(), name="dead-client") as consumer:
        await eventually(lambda: consumer.problem() is None)
        assert consumer._member.consumer is not None
        client = consumer._member.consumer._client
        await kill_metadata_task(client)
        with pytest.raises(ConsumerLost, match="client has died"):
            async with asyncio.timeout(health_module.KAFKA_CHECK_SECONDS):
                await consumer.watch()
        assert (consumer.problem() or "").startswith("lost")
        client._sync_task = None  # closing the client would raise the error that ended the task


@pytest.mark.parametrize("part", ["_fetcher._fetch_task", "_coordinator._coordination_task"])
async def test_invariant_9_a_consumer_with_a_dead_task_ends_its_process_at_once(
    settings: ServiceSettings, producer: RecordProducer, part: str
) -> None:
    async with consuming(settings, producer, Handler(), name="dead-part") as consumer:
        await eventually(lambda: consumer.problem() is None)
        task: asyncio.Task[None] = attrgetter(part)(consumer._member.consumer)
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(ConsumerLost, match="client has died"):
            async with asyncio.timeout(health_module.KAFKA_CHECK_SECONDS):
                await consumer.watch()


async def test_invariant_9_a_producer_that_gets_no_answer_is_replaced(
    settings: ServiceSettings, own: RecordProducer
) -> None:
    assert own._producer is not None
    topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    own._producer._sender._muted_partitions |= {
        TopicPartition(topic, number) for number in range(6)
    }
    with pytest.raises(BrokerUnavailable, match=r"within 0\.5 s"):
        await own.send(topic, [Record(b"k", b"muted")], seconds=0.5)
    await own.send(topic, [Record(b"k", b"after-silence")])
    assert b"after-silence" in await read_outcomes(settings)


async def test_invariant_9_a_dead_producer_is_replaced(
    settings: ServiceSettings, own: RecordProducer
) -> None:
    assert own._producer is not None
    await kill_metadata_task(own._producer.client)
    await own.send(
        TopicNames(settings.topic_prefix)[TopicName.OUTCOMES], [Record(b"k", b"after-metadata")]
    )
    own._producer._sender.sender_task.cancel()
    await asyncio.wait([own._producer._sender.sender_task])
    await own.send(
        TopicNames(settings.topic_prefix)[TopicName.OUTCOMES], [Record(b"k", b"after-sender")]
    )
    assert {b"after-metadata", b"after-sender"} <= set(await read_outcomes(settings))


@asynccontextmanager
async def unanswered_commits(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    async def silent(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(batch_processor, "COMMIT_TIMEOUT_SECONDS", 0.3)
    client = consumer._member.consumer
    assert client is not None
    real, client.commit = client.commit, silent
    yield
    client.commit = real


async def test_invariant_9_a_commit_without_an_answer_times_out_and_its_batch_is_retried(
    settings: ServiceSettings, producer: RecordProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, values = Handler(), make_values("silent-commit")
    async with consuming(settings, producer, handler, name="silent-commit") as consumer:
        await eventually(lambda: consumer.problem() is None)
        async with unanswered_commits(consumer, monkeypatch):
            await produce(producer, settings, values)
            await eventually(
                lambda: len(select_by_prefix("silent-commit", handler.done)) > len(values)
            )
            assert consumer.problem()
        await eventually(lambda: consumer.problem() is None)


async def test_a_consumer_whose_commits_get_no_answer_is_lost_if_kafka_answers_others(
    settings: ServiceSettings, producer: RecordProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "KAFKA_CHECK_SECONDS", 0.1)
    async with consuming(settings, producer, Handler(), name="silent") as consumer:
        await eventually(lambda: consumer.problem() is None)
        async with unanswered_commits(consumer, monkeypatch):
            await produce(producer, settings, make_values("silent"))
            with pytest.raises(ConsumerLost, match="it answers other clients"):
                async with asyncio.timeout(20):
                    await consumer.watch()


async def test_a_dead_producer_can_be_stopped(settings: ServiceSettings) -> None:
    producer = RecordProducer(settings, client_id="test-dies")
    await producer.start()
    assert producer._producer is not None
    await kill_metadata_task(producer._producer.client)
    await producer.stop()


async def open_connections(producer: AIOKafkaProducer, topic: str) -> list[AIOKafkaConnection]:
    await producer.partitions_for(topic)
    connections = list(producer.client._conns.values())
    assert connections
    return connections


async def test_a_producer_whose_sender_waits_for_a_dead_client_is_discarded_in_time(
    settings: ServiceSettings,
) -> None:
    """When canceled, the sender waits for its transactional request.

    The request waits for metadata, which a dead client never fetches.
    """
    before = asyncio.all_tasks()
    producer = AIOKafkaProducer(
        **client_options(settings, client_id="test-waits"),
        transactional_id=f"{settings.topic_prefix}-waits",
    )
    await producer.start()
    await producer.begin_transaction()
    topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    connections = await open_connections(producer, topic)
    waits = asyncio.Event()

    async def unknown(*_: Any) -> None:
        waits.set()
        raise CoordinatorNotAvailableError

    producer.client.coordinator_lookup = unknown
    producer._sender._coordinators.clear()
    await kill_metadata_task(producer.client)
    await producer.send(topic, b"x", partition=0)
    await waits.wait()
    async with asyncio.timeout(4 * DISCARD_SECONDS):
        await discard(producer)
    assert producer._sender.sender_task.done()
    assert not any(connection.connected() for connection in connections)
    await eventually(lambda: not asyncio.all_tasks() - before)


async def test_a_producer_with_a_dead_sender_leaves_no_connection_open(
    settings: ServiceSettings,
) -> None:
    producer = AIOKafkaProducer(**client_options(settings, client_id="test-sender-dies"))
    await producer.start()
    topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    connections = await open_connections(producer, topic)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    producer._message_accumulator.drain_by_nodes = broken
    await producer.send(topic, b"x", partition=0)
    await asyncio.wait([producer._sender.sender_task])
    await discard(producer)
    assert not any(connection.connected() for connection in connections)


async def test_closing_a_stuck_client_times_out(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, a connection may have unsent data for a broker that does not read."""
    monkeypatch.setattr(aiokafka_internals, "DISCARD_SECONDS", 0.1)
    producer = AIOKafkaProducer(**client_options(settings, client_id="test-does-not-close"))
    await producer.start()
    (connection, *_) = await open_connections(
        producer, TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    )
    real, connection.close = (
        connection.close,
        lambda **_: asyncio.get_running_loop().create_future(),
    )
    async with asyncio.timeout(10):
        await discard(producer)
    await real()
