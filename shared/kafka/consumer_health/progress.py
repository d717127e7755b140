"""Reads how far a consumer has processed its partitions, without asking Kafka."""

import asyncio
import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from shared.kafka.aiokafka_internals import has_fetched
from shared.kafka.batches import Batch, find_first_offsets
from shared.kafka.consumer_health.stalls import PartitionProgress

POSITION_TIMEOUT_SECONDS = 0.5
"""The timeout for a position. It is known at once, except in a rebalance while Kafka is silent."""


class Progress:
    """Tracks the offsets up to which a consumer's records are processed."""

    def __init__(self, consumer: Callable[[], AIOKafkaConsumer | None]) -> None:
        """`consumer` returns aiokafka's consumer, or None before it has started."""
        self._consumer = consumer
        self._in_hand: dict[TopicPartition, int] = {}

    def start(self, batch: Batch) -> None:
        """Notes that a batch has been fetched: aiokafka's position is behind it already."""
        self._in_hand = find_first_offsets(batch)

    def finish(self) -> None:
        """Notes that the batch has been processed, or that the position was set back."""
        self._in_hand = {}

    def last_polled_at(self) -> float:
        """Returns when Kafka last answered a fetch, in epoch seconds.

        Fetches go on while no records come, so silence means trouble.
        """
        consumer = self._consumer()
        if consumer is None:
            return 0.0
        assigned = consumer.assignment()
        if not assigned:
            return time.time()  # more members than partitions: nothing to poll, and nothing wrong
        return max((consumer.last_poll_timestamp(partition) or 0) for partition in assigned) / 1000

    async def processed_offsets(self) -> dict[TopicPartition, int]:
        """Returns for each assigned partition the offset up to which nothing is left to process."""
        consumer = self._consumer()
        assigned = list(consumer.assignment()) if consumer else []
        found = await asyncio.gather(*map(self._read_processed, assigned))
        offsets = zip(assigned, found, strict=True)
        return {partition: offset for partition, offset in offsets if offset is not None}

    async def read_partitions(self) -> dict[TopicPartition, PartitionProgress]:
        """Reads the progress of assigned partitions that are not paused, without asking Kafka."""
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
        return self._in_hand.get(partition, position)


def _read_partition(
    consumer: AIOKafkaConsumer, partition: TopicPartition, processed: int | None
) -> PartitionProgress:
    end = consumer.highwater(partition)
    stable = consumer.last_stable_offset(partition)  # -1 for a consumer that reads uncommitted
    is_held = end is not None and stable is not None and processed == stable < end
    return PartitionProgress(
        processed,
        end,
        consumer.last_poll_timestamp(partition),
        is_held=is_held,
        is_fetched=has_fetched(consumer, partition),
    )
