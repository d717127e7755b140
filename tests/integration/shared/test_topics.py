"""The limits and the compression of topics, on a real broker."""

import gzip
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from deploy.topics import describe_differences
from shared.contract.import_limits import MAX_REQUEST_BYTES, MEBIBYTE
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import admin_client, create_topics
from shared.kafka.dead_letters import MAX_VALUE_BYTES
from shared.runtime.settings import KafkaSettings
from tests.support.kafka import delete_topics, read_records, wait_until_served


async def produce(
    kafka: str,
    topic_prefix: str,
    name: TopicName,
    value: bytes,
    compression: Any = None,
    headers: Any = None,
) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, max_request_size=64 * MEBIBYTE, compression_type=compression
    ) as producer:
        await producer.send_and_wait(
            TopicNames(topic_prefix)[name], value, key=b"k", headers=headers
        )


async def test_a_request_of_6_mib_and_its_dead_letter_are_accepted(
    kafka: str, topic_prefix: str
) -> None:
    await produce(kafka, topic_prefix, TopicName.IMPORT_REQUESTS, b" " * 6 * MEBIBYTE)
    await produce(kafka, topic_prefix, TopicName.DEAD_LETTERS, b" " * MAX_REQUEST_BYTES)


async def test_a_truncated_value_fits_a_dead_letter_with_its_headers(
    kafka: str, topic_prefix: str
) -> None:
    await produce(
        kafka,
        topic_prefix,
        TopicName.DEAD_LETTERS,
        b" " * MAX_VALUE_BYTES,
        headers=[("h", b" " * 400 * 1024)],
    )


async def test_the_broker_decompresses_compressed_records(kafka: str, topic_prefix: str) -> None:
    await produce(kafka, topic_prefix, TopicName.JOB_EVENTS, b"packed", "gzip")
    assert [
        record.value for record in await read_records(kafka, topic_prefix, TopicName.JOB_EVENTS)
    ] == [b"packed"]


async def test_topics_that_only_pinflow_writes_keep_its_compression(
    kafka: str, topic_prefix: str
) -> None:
    names = TopicNames(topic_prefix)
    compression_types = {}
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=kafka)) as admin:
        for name in TopicName:
            (answer,) = await admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, names[name])]
            )
            compression_types[name] = next(
                value for key, value, *_ in answer.resources[0][4] if key == "compression.type"
            )
    own = {
        TopicName.IMPORTS,
        TopicName.OUTCOMES,
        TopicName.PIN_EVENTS,
        TopicName.DELIVERIES,
    }
    assert compression_types == {
        name: "producer" if name in own else "uncompressed" for name in TopicName
    }


async def test_a_request_that_is_small_only_while_compressed_is_refused(
    kafka: str, topic_prefix: str
) -> None:
    bomb = b" " * 32 * MEBIBYTE
    assert len(gzip.compress(bomb)) < MEBIBYTE
    with pytest.raises(MessageSizeTooLargeError):
        await produce(kafka, topic_prefix, TopicName.IMPORT_REQUESTS, bomb, "gzip")


async def test_new_topics_get_the_set_partition_count_and_existing_ones_are_unchanged(
    kafka: str,
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka, topic_prefix=f"test-{uuid4().hex[:12]}", topic_partitions=2
    )
    names = TopicNames(settings.topic_prefix)
    try:
        first = await create_topics(settings)
        assert (len(first.names), first.partition_mismatches) == (len(TopicName), {})
        await wait_until_served(kafka, [names[name] for name in TopicName])
        again = await create_topics(settings.model_copy(update={"topic_partitions": 5}))
        assert again.names == []
        assert again.partition_mismatches == {
            names[name]: (2, 5) for name in TopicName if name is not TopicName.DEAD_LETTERS
        }
        assert len(describe_differences(again)) == len(again.partition_mismatches)
        async with admin_client(settings) as admin:
            described = await admin.describe_topics([names[name] for name in TopicName])
        assert {topic["topic"]: len(topic["partitions"]) for topic in described} == {
            names[name]: 3 if name is TopicName.DEAD_LETTERS else 2 for name in TopicName
        }
    finally:
        await delete_topics(settings)
