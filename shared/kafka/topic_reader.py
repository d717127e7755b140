"""Reads a topic from Kafka between two offsets, without a consumer group."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError, UnknownTopicOrPartitionError

from shared.contract.errors import BrokerUnavailable
from shared.kafka.aiokafka_internals import load_consumer_metadata
from shared.kafka.batches import Batch
from shared.kafka.connection import client_options
from shared.runtime.settings import KafkaSettings

MAX_RECORDS = 500
"""Maximum records that are yielded at once. A caller writes them in one transaction: of the topic
`outcomes`, at most 100 000 rows, usually far fewer."""
MAX_SILENCE_SECONDS = 10.0
"""Maximum seconds without records from Kafka although there are more."""
REQUEST_TIMEOUT_SECONDS = 10.0

Offsets: TypeAlias = dict[TopicPartition, int]
Bounds: TypeAlias = dict[TopicPartition, tuple[int, int]]
"""The first offset and the offset after the last record, by partition."""


class TopicReader:
    """Reads through one connection to Kafka, which the first call opens.

    An error closes the connection. The next call opens another.
    """

    def __init__(self, settings: KafkaSettings, topic: str, *, client_id: str) -> None:
        self._settings = settings
        self._topic = topic
        self._client_id = client_id
        self._connecting = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None

    async def bounds(self) -> Bounds:
        """Reads the first and end offsets of each partition. Raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                consumer = await self._connected()
                partitions = await self._partitions(consumer)
                begins = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
                return {partition: (begins[partition], ends[partition]) for partition in partitions}
        except (KafkaError, ConsumerStoppedError, OSError) as error:
            await self.close()
            raise BrokerUnavailable(repr(error)) from error

    async def read(self, starts: Offsets, ends: Offsets) -> AsyncIterator[Batch]:
        """Yields the records from `starts` to `ends`. Raises BrokerUnavailable."""
        remaining = {partition: end for partition, end in ends.items() if starts[partition] < end}
        if not remaining:
            return
        consumer = await self._connected()
        consumer.assign(list(remaining))
        try:
            for partition in remaining:
                consumer.seek(partition, starts[partition])
            while remaining:
                timeout_ms = int(MAX_SILENCE_SECONDS * 1000)
                fetched = await consumer.getmany(
                    *remaining,
                    timeout_ms=timeout_ms,
                    max_records=MAX_RECORDS,
                )
                if not fetched:
                    await self.close()  # the consumer may have stopped fetching for good
                    raise BrokerUnavailable(
                        f"Kafka returned no records of {self._topic} for {MAX_SILENCE_SECONDS:g} s"
                        " although there are more. The service tries again.",
                    )
                yield [record for records in fetched.values() for record in records]
                remaining = {
                    partition: end
                    for partition, end in remaining.items()
                    if await consumer.position(partition) < end
                }
        except (KafkaError, ConsumerStoppedError) as error:  # another call may have closed it
            await self.close()
            raise BrokerUnavailable(repr(error)) from error
        finally:
            consumer.unsubscribe()

    async def close(self) -> None:
        """Closes the connection to Kafka."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def _connected(self) -> AIOKafkaConsumer:
        """Returns the open connection, or opens one. Raises BrokerUnavailable."""
        async with self._connecting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    **client_options(self._settings, client_id=self._client_id),
                    group_id=None,
                    enable_auto_commit=False,
                    auto_offset_reset="none",
                )
                try:
                    await consumer.start()
                except BaseException as error:
                    await consumer.stop()
                    if isinstance(error, (KafkaError, OSError)):
                        raise BrokerUnavailable(repr(error)) from error
                    raise
                self._consumer = consumer
            return self._consumer

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        await load_consumer_metadata(consumer, self._topic)
        numbers = consumer.partitions_for_topic(self._topic)
        if not numbers:
            raise UnknownTopicOrPartitionError(self._topic)
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]
