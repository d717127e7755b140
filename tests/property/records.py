"""Builds a consumer's records without a broker."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from shared.contract.topics import TopicName, TopicNames
from shared.kafka.records import Record

NAMES = TopicNames()


def build_consumer_record(
    topic: TopicName,
    value: bytes | None,
    *,
    partition: int = 0,
    offset: int = 0,
    headers: Sequence[tuple[str, bytes]] = (),
) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(
        NAMES[topic], partition, offset, 0, 0, b"k", value, None, 0, 0, tuple(headers)
    )


def build_consumer_records(
    topic: TopicName, records: Sequence[Record], *, partition: int = 0
) -> list["ConsumerRecord[bytes, bytes]"]:
    return [
        build_consumer_record(topic, record.value, partition=partition, headers=record.headers)
        for record in records
    ]
