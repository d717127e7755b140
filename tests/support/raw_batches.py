"""Reads record batches as Kafka stores them. Consumers don't show the codec."""

from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from shared.kafka.aiokafka_internals import load_metadata
from tests.support.waiting import eventually

MAX_BYTES = 32 * 1024 * 1024


class StoredBatch(NamedTuple):
    codec: int
    """0: not compressed. 2: snappy."""
    size: int
    """The bytes in the log."""
    values: list[bytes]


class _Fetched(NamedTuple):
    """An answer of a broker. Unlike its data it is true if the partition is empty."""

    data: bytes


async def read_batches(kafka: str, topic: str) -> list[StoredBatch]:
    """Returns every batch of the topic, partition by partition. Together at most 32 MiB."""
    client = AIOKafkaClient(bootstrap_servers=kafka)
    try:
        await client.bootstrap()
        await load_metadata(client, topic)
        return [
            batch
            for partition in sorted(client.cluster.partitions_for_topic(topic) or ())
            for batch in _parse(await _wait_for_data(client, TopicPartition(topic, partition)))
        ]
    finally:
        await client.close()


async def _wait_for_data(client: AIOKafkaClient, partition: TopicPartition) -> bytes:
    """Returns the partition's batches as soon as its broker serves them.

    A broker takes over the partitions of a new topic one after another, so that it may answer for
    one that it does not lead yet, although another has records already.
    """
    fetched = await eventually(lambda: _fetch(client, partition))
    return fetched.data


async def _fetch(client: AIOKafkaClient, partition: TopicPartition) -> _Fetched | None:
    """Returns None if the broker asks to try again. Raises its other errors."""
    leader = client.cluster.leader_for_partition(partition)
    wanted = (partition.topic, [(partition.partition, 0, MAX_BYTES)])
    answer = await client.send(leader, FetchRequest(0, 0, MAX_BYTES, 0, [wanted]))
    ((_, ((_, error_code, *_, batches),)),) = answer.topics
    error = for_code(error_code)
    if error_code and error.retriable:
        return None
    if error_code:
        raise error(f"fetching {partition.topic} {partition.partition}")
    return _Fetched(bytes(batches or b""))


def _parse(data: bytes) -> list[StoredBatch]:
    stored, position, batches = MemoryRecords(data), 0, []
    while stored.has_next():
        # The length in the header does not count the offset and itself
        size = 12 + int.from_bytes(data[position + 8 : position + 12], "big")
        batch = stored.next_batch()
        codec = batch.compression_type
        batches.append(StoredBatch(codec, size, [record.value or b"" for record in batch]))
        position += size
    return batches
