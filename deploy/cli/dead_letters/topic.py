"""Reads the topic `dead-letters`, without a consumer group."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from shared.contract.errors import BrokerUnavailable, PinflowError
from shared.contract.topics import MAX_RECORD_BYTES, TopicName, TopicNames
from shared.kafka.admin import admin_client, list_partitions
from shared.kafka.connection import client_options, translate_error
from shared.runtime.settings import KafkaSettings

POLL_MS = 500
MAX_SILENCE_SECONDS = 20.0
"""The longest wait for the next record of a partition whose end is not reached."""


class NoSuchTopic(PinflowError):
    """A topic does not exist. The message is its name."""


class DeadLetterTopic:
    """Reads records and offsets of `dead-letters`. Raises BrokerUnavailable."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, partitions: Collection[int]) -> None:
        self._consumer = consumer
        self._topic = topic
        self.partitions = frozenset(partitions)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: KafkaSettings) -> AsyncIterator["DeadLetterTopic"]:
        """Starts a consumer, and stops it at the end. Raises NoSuchTopic."""
        topic = TopicNames(settings.topic_prefix)[TopicName.DEAD_LETTERS]
        partitions = await _read_partitions(topic, settings)
        consumer = _create_consumer(settings)
        try:
            await consumer.start()
            yield cls(consumer, topic, partitions)
        except KafkaError as error:
            raise translate_error(error) or error from error
        finally:
            await consumer.stop()

    async def read_bounds(self) -> dict[int, tuple[int, int]]:
        """Reads each partition's first offset, and the offset after its last record."""
        partitions = self._all_partitions()
        first = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        return {
            partition.partition: (first[partition], ends[partition]) for partition in partitions
        }

    async def find_offsets_at(self, time: datetime) -> dict[int, int]:
        """Finds the offset of each partition's first record since `time`, else its end."""
        partitions = self._all_partitions()
        offsets = await self._consumer.offsets_for_times(
            dict.fromkeys(partitions, int(time.timestamp() * 1000))
        )
        ends = await self._consumer.end_offsets(partitions)
        return {
            partition.partition: record.offset if record else ends[partition]
            for partition, record in offsets.items()
        }

    async def read(
        self, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator["ConsumerRecord[bytes, bytes]"]:
        """Yields the records from `starts` up to `ends`, one partition after the other."""
        for number in sorted(starts):
            partition = TopicPartition(self._topic, number)
            self._consumer.assign([partition])
            self._consumer.seek(partition, starts[number])
            moved_at = asyncio.get_running_loop().time()
            while (position := await self._consumer.position(partition)) < ends[number]:
                batches = await self._consumer.getmany(partition, timeout_ms=POLL_MS)
                for record in batches.get(partition, []):
                    if record.offset < ends[number]:
                        yield record
                now = asyncio.get_running_loop().time()
                if batches or await self._consumer.position(partition) > position:
                    moved_at = now
                elif now - moved_at > MAX_SILENCE_SECONDS:
                    raise BrokerUnavailable(
                        f"no record of {self._topic} arrived for {MAX_SILENCE_SECONDS:g} s"
                    )

    def _all_partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in sorted(self.partitions)]


def _create_consumer(settings: KafkaSettings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **client_options(settings, client_id="pinflow-dead-letters"),
        # An earlier version wrote markers in transactions, and some of these were aborted
        isolation_level="read_committed",
        auto_offset_reset="earliest",  # retention may delete the start offset meanwhile
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )


async def _read_partitions(topic: str, settings: KafkaSettings) -> list[int]:
    async with admin_client(settings) as admin:
        (description,) = await admin.describe_topics([topic])
    partitions = list_partitions(description)
    if not partitions:
        raise NoSuchTopic(topic)
    return partitions
