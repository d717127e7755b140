"""Reads how far a consumer has processed its partitions, without a request to Kafka."""

import asyncio
import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from shared.kafka.aiokafka_internals import has_fetched
from shared.kafka.batches import Batch, find_first_offsets
from shared.kafka.consumer_health.stalls import PartitionProgress

POSITION_TIMEOUT_SECONDS = 0.5
"""The timeout for reading a position. aiokafka makes its callers wait only in a rebalance."""


class Progress:
    """Tracks the offsets up to which a consumer's records are processed."""

    def __init__(self, consumer: Callable[[], AIOKafkaConsumer | None]) -> None:
        """Reads from the consumer that `consumer` returns, which is None before the start."""
        self._consumer = consumer
        self._in_flight: dict[TopicPartition, int] = {}

    def start(self, batch: Batch) -> None:
        """Records that a batch was fetched. aiokafka's positions are already after it."""
        self._in_flight = find_first_offsets(batch)

    def finish(self) -> None:
        """Records that the batch was processed, or that the consumer sought back to its start."""
        self._in_flight = {}

    def last_polled_at(self) -> float:
        """Returns when Kafka last answered a fetch, in epoch seconds.

        aiokafka also fetches while no records come. So a long silence means a fault.
        """
        consumer = self._consumer()
        if consumer is None:
            return 0.0
        assigned = consumer.assignment()
        if not assigned:
            return time.time()  # no partition to fetch, because the group has more members
        return max((consumer.last_poll_timestamp(partition) or 0) for partition in assigned) / 1000

    async def processed_offsets(self) -> dict[TopicPartition, int]:
        """Returns for each assigned partition the offset up to which everything is processed."""
        consumer = self._consumer()
        assigned = list(consumer.assignment()) if consumer else []
        processed = await asyncio.gather(*map(self._read_processed, assigned))
        offsets = zip(assigned, processed, strict=True)
        return {partition: offset for partition, offset in offsets if offset is not None}

    async def read_partitions(self) -> dict[TopicPartition, PartitionProgress]:
        """Reads the progress of all assigned partitions that are not paused."""
        processed = await self.processed_offsets()
        consumer = self._consumer()
        if consumer is None:
            return {}
        partitions = consumer.assignment() - consumer.paused()
        return {
            partition: _read_partition(consumer, partition, processed.get(partition))
            for partition in partitions
        }

    async def _read_processed(self, partition: TopicPartition) -> int | None:
        consumer = self._consumer()
        if consumer is None or partition not in consumer.assignment():
            return None
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_SECONDS):
                position: int = await consumer.position(partition)
        except (IllegalStateError, TimeoutError):
            return None
        return self._in_flight.get(partition, position)


def _read_partition(
    consumer: AIOKafkaConsumer, partition: TopicPartition, processed: int | None
) -> PartitionProgress:
    end = consumer.highwater(partition)
    stable = consumer.last_stable_offset(partition)  # -1 for a consumer that reads uncommitted
    is_behind_transaction = end is not None and stable is not None and processed == stable < end
    return PartitionProgress(
        processed,
        end,
        consumer.last_poll_timestamp(partition),
        is_behind_transaction=is_behind_transaction,
        is_fetched=has_fetched(consumer, partition),
    )
