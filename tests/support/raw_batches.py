"""Reads record batches as Kafka stores them. Consumers don't show the codec."""

from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from shared.kafka.aiokafka_internals import load_metadata

MAX_BYTES = 32 * 1024 * 1024


class StoredBatch(NamedTuple):
    codec: int
    """0: not compressed. 2: snappy."""
    size: int
    """The bytes in the log."""
    values: list[bytes]


async def read_batches(kafka: str, topic: str) -> list[StoredBatch]:
    """Returns every batch of the topic, partition by partition. Together at most 32 MiB."""
    client = AIOKafkaClient(bootstrap_servers=kafka)
    try:
        await client.bootstrap()
        await load_metadata(client, topic)
        return [
            batch
            for partition in sorted(client.cluster.partitions_for_topic(topic) or ())
            for batch in _parse(await _fetch(client, TopicPartition(topic, partition)))
        ]
    finally:
        await client.close()


async def _fetch(client: AIOKafkaClient, partition: TopicPartition) -> bytes:
    leader = client.cluster.leader_for_partition(partition)
    wanted = (partition.topic, [(partition.partition, 0, MAX_BYTES)])
    answer = await client.send(leader, FetchRequest(0, 0, MAX_BYTES, 0, [wanted]))
    ((_, ((_, error_code, *_, batches),)),) = answer.topics
    assert error_code == 0
    return bytes(batches or b"")


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
