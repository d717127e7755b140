"""The real producer and its fake pass the same scenarios."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import RecordProducer, RecordSender
from shared.kafka.records import Record
from shared.runtime.settings import KafkaSettings
from tests.support.fakes import MemorySender
from tests.support.kafka import read_records

ReadRecords = Callable[[], Awaitable[list[Record]]]


@pytest_asyncio.fixture(params=["memory", "kafka"], loop_scope="module")
async def sender(
    request: pytest.FixtureRequest, kafka: str, topic_prefix: str
) -> AsyncIterator[tuple[RecordSender, ReadRecords]]:
    topic = TopicNames(topic_prefix)[TopicName.OUTCOMES]
    if request.param == "memory":
        memory = MemorySender()

        async def in_memory() -> list[Record]:
            return [record for partition in memory.topics.get(topic, []) for record in partition]

        yield memory, in_memory
        return

    async def in_kafka() -> list[Record]:
        records = await read_records(kafka, topic_prefix, TopicName.OUTCOMES)
        return [Record(record.key, record.value or b"", list(record.headers)) for record in records]

    producer = RecordProducer(KafkaSettings(kafka_bootstrap_servers=kafka), client_id="contract")
    await producer.start()
    yield producer, in_kafka
    await producer.stop()


async def test_records_of_one_key_keep_their_order_and_stay_together(
    sender: tuple[RecordSender, ReadRecords], topic_prefix: str
) -> None:
    send, read_records = sender
    records = [
        Record(f"key-{number % 7}".encode(), str(number).encode(), [("h", b"\xff")])
        for number in range(2000)
    ]
    await send.send(TopicNames(topic_prefix)[TopicName.OUTCOMES], records)
    found = await read_records()
    assert sorted(found, key=_content) == sorted(records, key=_content)
    for number in range(7):
        key = f"key-{number}".encode()
        assert [record for record in found if record.key == key] == [
            record for record in records if record.key == key
        ]


def _content(record: Record) -> bytes:
    return record.value


async def test_sending_no_records_is_allowed(
    sender: tuple[RecordSender, ReadRecords], topic_prefix: str
) -> None:
    send, read_records = sender
    before = await read_records()
    await send.send(TopicNames(topic_prefix)[TopicName.OUTCOMES], [])
    assert await read_records() == before
