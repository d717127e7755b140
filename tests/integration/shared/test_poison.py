"""Poison on a real broker: it becomes dead letters, and halts a consumer that gets nothing else."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest_asyncio
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from shared.contract.errors import BrokerUnavailable, ErrorCode, Poison
from shared.contract.import_limits import MEBIBYTE
from shared.contract.topics import TOPICS, TopicName, TopicNames
from shared.kafka.admin import create_topics
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import MAX_VALUE_BYTES, DeadLetter
from shared.kafka.positions.advance import Advance
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import (
    TOPIC,
    Handler,
    consuming,
    make_values,
    produce,
    read_dead_letters,
    select_by_prefix,
)
from tests.support.kafka import delete_topics, read_records
from tests.support.waiting import eventually


async def test_invariant_8_poison_becomes_a_dead_letter_with_key_value_and_headers(
    settings: ServiceSettings, producer: RecordProducer, kafka: str, topic_prefix: str
) -> None:
    handler = Handler()
    await produce(
        producer, settings, [b"poison-1"], headers=[("trace", b"\xff\xfe"), ("ce_id", b"x")]
    )
    await produce(producer, settings, make_values("beside"))
    async with consuming(settings, producer, handler, name="poison"):
        await eventually(lambda: set(make_values("beside")) <= set(handler.done))
    letters = [
        letter
        for letter in await read_records(kafka, topic_prefix, TopicName.DEAD_LETTERS)
        if letter.value == b"poison-1"
    ]
    headers = dict(letters[0].headers)
    assert letters[0].key == b"poison-1"
    assert (headers["trace"], headers["ce_id"]) == (b"\xff\xfe", b"x")
    assert headers["pinflow-topic"].decode() == TopicNames(topic_prefix)[TOPIC]
    assert headers["pinflow-error-code"] == b"invalid_record"
    assert headers["pinflow-replay-count"] == b"0"


async def test_invariant_8_when_everything_is_poison_the_consumer_halts_and_loses_nothing(
    environment: dict[str, Any], producer: RecordProducer
) -> None:
    prefix = {**environment, "consumer_poison_limit": 5}
    settings = ServiceSettings(**prefix)
    handler = Handler()
    async with consuming(settings, producer, handler, name="flood", clean=False) as consumer:
        await eventually(lambda: consumer.problem() is None)
        await produce(producer, settings, make_values("readable"))
        await eventually(lambda: handler.batches)  # the records of other tests are processed
        await produce(producer, settings, [b"poison-%d" % number for number in range(200)])
        await eventually(lambda: (consumer.problem() or "").startswith("halted"))
        assert halted_gauge("flood") == 1  # the alert uses this metric

    # After a restart with a release that can read them, all records are processed
    class ReadsAll(Handler):
        def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
            return [record.value or b"" for record in records], []

    later = ReadsAll()
    async with consuming(settings, producer, later, name="flood"):
        # The partitions' records may come in several batches
        await eventually(lambda: len(select_by_prefix("poison", later.done)) >= 195)
        await eventually(lambda: b"poison-199" in later.done)
    assert halted_gauge("flood") == 0


def halted_gauge(consumer: str) -> float | None:
    return REGISTRY.get_sample_value(
        "pinflow_consumer_halted", {"consumer": consumer, "member": "0"}
    )


async def test_invariant_8_a_retried_batch_of_poison_counts_once(
    environment: dict[str, Any], producer: RecordProducer
) -> None:
    settings = ServiceSettings(**{**environment, "consumer_poison_limit": 500})
    refused = 0

    class UnavailableForAWhile:
        async def send(self, topic: str, records: Sequence[Record], *, seconds: float = 20) -> None:
            nonlocal refused
            if refused < 6 and any(record.value.startswith(b"poison-again") for record in records):
                refused += 1
                raise BrokerUnavailable("down")
            await producer.send(topic, records, seconds=seconds)

    handler = Handler()
    async with consuming(settings, UnavailableForAWhile(), handler, name="again") as consumer:
        await produce(producer, settings, make_values("before"))
        await eventually(
            lambda: set(make_values("before")) <= set(handler.done)
        )  # the records of other tests are processed
        await produce(producer, settings, [b"poison-again-%d" % number for number in range(100)])
        await eventually(lambda: refused == 6)
        await produce(producer, settings, make_values("healthy"))
        await eventually(lambda: set(make_values("healthy")) <= set(handler.done))
        await eventually(lambda: consumer.problem() is None)


async def test_invariant_8_poison_found_in_processing_halts_the_consumer_too(
    environment: dict[str, Any], producer: RecordProducer
) -> None:
    settings = ServiceSettings(**{**environment, "consumer_poison_limit": 5})

    class RefusesAll(Handler):
        def decode(self, records: Batch) -> tuple[list[Any], list[DeadLetter]]:
            return list(records), []

        async def process(
            self, decoded: list[Any], _poison: list[DeadLetter], _advance: Advance
        ) -> list[DeadLetter]:
            return [
                DeadLetter(record, Poison(ErrorCode.RECORD_REFUSED, "no")) for record in decoded
            ]

    await produce(producer, settings, make_values("refused", 200))
    async with consuming(settings, producer, RefusesAll(), name="refuses-all") as consumer:
        await eventually(lambda: (consumer.problem() or "").startswith("halted"))


@pytest_asyncio.fixture(loop_scope="module")
async def compressed_topic(environment: dict[str, Any]) -> AsyncIterator[ServiceSettings]:
    """Settings with empty topics on which the broker keeps the producer's compression."""
    settings = ServiceSettings(**{**environment, "topic_prefix": f"test-{uuid4().hex[:12]}"})
    topics = tuple(topic for topic in TOPICS if topic.name in {TOPIC, TopicName.DEAD_LETTERS})
    await create_topics(settings, topics)
    yield settings
    await delete_topics(settings, topics)


async def produce_compressed(settings: ServiceSettings, value: bytes, codec: Any) -> None:
    servers = settings.kafka_bootstrap_servers
    async with AIOKafkaProducer(
        bootstrap_servers=servers, max_request_size=64 * MEBIBYTE, compression_type=codec
    ) as compressing:
        await compressing.send_and_wait(
            TopicNames(settings.topic_prefix)[TOPIC], value, key=value[:20]
        )


async def test_records_compressed_with_any_codec_are_read(
    compressed_topic: ServiceSettings, producer: RecordProducer
) -> None:
    handler, codecs = Handler(), ("gzip", "snappy", "lz4", "zstd")
    for codec in codecs:
        await produce_compressed(compressed_topic, codec.encode(), codec)
    async with consuming(compressed_topic, producer, handler, name="codecs"):
        await eventually(lambda: sorted(handler.done) == sorted(codec.encode() for codec in codecs))


async def test_invariant_8_a_record_larger_than_a_dead_letter_does_not_block_its_partition(
    compressed_topic: ServiceSettings, producer: RecordProducer
) -> None:
    """The record was small while compressed. Its dead letter has the beginning, and is marked."""
    bomb = b"poison" + bytes(16 * MEBIBYTE)
    handler = Handler()
    await produce_compressed(compressed_topic, bomb, "lz4")
    async with consuming(compressed_topic, producer, handler, name="bomb"):
        await produce(producer, compressed_topic, make_values("beside"))
        await eventually(lambda: set(make_values("beside")) <= set(handler.done))
        (letter,) = await eventually(lambda: read_dead_letters(compressed_topic), every=0.2)
    assert letter.value == bomb[:MAX_VALUE_BYTES]
    assert dict(letter.headers)["pinflow-truncated"] == str(len(bomb)).encode()
