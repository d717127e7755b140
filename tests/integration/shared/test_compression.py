"""Batches of a producer's compressed topics, as a real broker stores them."""

import json
from random import randbytes

from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import RecordProducer
from shared.kafka.records import MAX_BATCH_BYTES, SNAPPY_CODEC, Record
from shared.runtime.settings import ServiceSettings
from tests.support.kafka import read_records
from tests.support.raw_batches import StoredBatch, read_batches
from tests.support.record_batches import NO_CODEC

ALIKE = [
    Record(b"workspace", json.dumps({"number": number, "title": "Lamp " * 100}).encode())
    for number in range(2000)
]
"""1 MB: more than one batch before compression."""
INCOMPRESSIBLE = [Record(b"workspace", randbytes(10_000)) for _ in range(200)]


async def send(
    settings: ServiceSettings, name: TopicName, records: list[Record], *, is_compressed: bool
) -> list[StoredBatch]:
    """Sends records, and returns the batches that the topic then has."""
    topic = TopicNames(settings.topic_prefix)[name]
    producer = RecordProducer(
        settings, client_id="test-compressing", compressed_topics=[topic] if is_compressed else []
    )
    await producer.start()
    await producer.send(topic, records)
    await producer.stop()
    return await read_batches(settings.kafka_bootstrap_servers, topic)


async def test_a_compressed_topic_has_snappy_batches_that_a_consumer_reads(
    settings: ServiceSettings,
) -> None:
    batches = await send(settings, TopicName.PIN_EVENTS, ALIKE, is_compressed=True)
    assert {batch.codec for batch in batches} == {SNAPPY_CODEC}
    # Split by the size before compression, so that no batch is larger than without it
    assert len(batches) == 2
    assert sum(batch.size for batch in batches) < sum(len(record.value) for record in ALIKE) / 4
    read = await read_records(
        settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.PIN_EVENTS
    )
    assert [record.value for record in read] == [record.value for record in ALIKE]


async def test_another_topic_of_the_producer_is_not_compressed(settings: ServiceSettings) -> None:
    batches = await send(settings, TopicName.OUTCOMES, ALIKE, is_compressed=False)
    assert {batch.codec for batch in batches} == {NO_CODEC}
    assert len(batches) == 2


async def test_what_does_not_compress_is_split_as_without_compression(
    settings: ServiceSettings,
) -> None:
    batches = await send(settings, TopicName.DELIVERIES, INCOMPRESSIBLE, is_compressed=True)
    assert [value for batch in batches for value in batch.values] == [
        record.value for record in INCOMPRESSIBLE
    ]
    assert len(batches) == 3
    assert max(batch.size for batch in batches) < 1.02 * MAX_BATCH_BYTES
    # One record of more than a batch's limit is a batch of its own
    alone = [Record(b"workspace", randbytes(MAX_BATCH_BYTES + 10_000))]
    assert len(await send(settings, TopicName.DELIVERIES, alone, is_compressed=True)) == 4


async def test_a_topic_that_decompresses_still_takes_compressed_batches(
    settings: ServiceSettings,
) -> None:
    """Like pin events of an installation that is upgraded: its topics keep their configuration."""
    batches = await send(settings, TopicName.JOB_EVENTS, ALIKE[:100], is_compressed=True)
    assert {batch.codec for batch in batches} == {NO_CODEC}
    assert [value for batch in batches for value in batch.values] == [
        record.value for record in ALIKE[:100]
    ]
