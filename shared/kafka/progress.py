"""How far a consumer is, and whether it moves at all."""

import asyncio
import time
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError

from shared.kafka.stalls import Reading

POSITION_SECONDS = 0.5
"""A position is known at once, but in a rebalance, when it may be for as long as Kafka is silent.
"""


class Progress:
    """`consumer` gives the aiokafka consumer, None before it has started."""

    def __init__(self, consumer: Callable[[], AIOKafkaConsumer | None]) -> None:
        self._consumer = consumer
        self._in_hand: dict[TopicPartition, int] = {}

    def takes(self, records: Sequence["ConsumerRecord[bytes, bytes]"]) -> None:
        """These have been fetched: aiokafka's position is behind them already."""
        self._in_hand = first_offsets(records)

    def puts_down(self) -> None:
        """They have been processed, or the position was put back."""
        self._in_hand = {}

    def last_poll(self) -> float:
        """When Kafka last answered a fetch, in epoch seconds.

        Fetches go on while nothing comes, so silence means trouble.
        """
        consumer = self._consumer()
        if consumer is None:
            return 0.0
        assigned = consumer.assignment()
        if not assigned:
            return time.time()  # more members than partitions: nothing to poll, and nothing wrong
        return max((consumer.last_poll_timestamp(partition) or 0) for partition in assigned) / 1000

    async def processed(self) -> dict[TopicPartition, int]:
        """Returns for each assigned partition the offset up to which nothing is left to process."""
        consumer = self._consumer()
        assigned = list(consumer.assignment()) if consumer else []
        found = await asyncio.gather(*map(self._processed_of, assigned))
        offsets = zip(assigned, found, strict=True)
        return {partition: offset for partition, offset in offsets if offset is not None}

    async def readings(self) -> dict[TopicPartition, Reading]:
        """Reads the progress of assigned partitions that are not paused, without asking Kafka."""
        processed = await self.processed()
        consumer = self._consumer()
        if consumer is None:
            return {}
        partitions = consumer.assignment() - consumer.paused()
        return {
            partition: _reading_of(consumer, partition, processed.get(partition))
            for partition in partitions
        }

    async def _processed_of(self, partition: TopicPartition) -> int | None:
        consumer = self._consumer()
        if consumer is None or partition not in consumer.assignment():
            return None
        try:
            async with asyncio.timeout(POSITION_SECONDS):
                position: int = await consumer.position(partition)
        except (IllegalStateError, TimeoutError):
            return None
        return self._in_hand.get(partition, position)


def _reading_of(
    consumer: AIOKafkaConsumer, partition: TopicPartition, processed: int | None
) -> Reading:
    end = consumer.highwater(partition)
    stable = consumer.last_stable_offset(partition)  # -1 for a consumer that reads uncommitted
    is_held = end is not None and stable is not None and processed == stable < end
    fetched = getattr(consumer._fetcher, "_records", {})  # noqa: SLF001 - aiokafka tells it in no other way
    return Reading(
        processed,
        end,
        consumer.last_poll_timestamp(partition),
        is_held=is_held,
        is_fetched=partition in fetched,
    )


def first_offsets(records: Sequence["ConsumerRecord[bytes, bytes]"]) -> dict[TopicPartition, int]:
    """The lowest offset of each partition."""
    first: dict[TopicPartition, int] = {}
    previous = None
    for record in records:
        # A batch has its records partition by partition, offsets rising: only the first of each run
        # can be the lowest
        if (
            previous is None
            or record.partition != previous.partition
            or record.topic != previous.topic
            or record.offset < previous.offset
        ):
            partition = TopicPartition(record.topic, record.partition)
            first[partition] = min(record.offset, first.get(partition, record.offset))
        previous = record
    return first


def ends_of(records: Sequence["ConsumerRecord[bytes, bytes]"]) -> dict[TopicPartition, int]:
    """Returns for each partition the offset behind the last of its records."""
    ends: dict[TopicPartition, int] = {}
    # Records come in runs of one partition with rising offsets: the last of a run counts
    following = None
    for record in reversed(records):
        if (
            following is None
            or record.partition != following.partition
            or record.topic != following.topic
        ):
            partition = TopicPartition(record.topic, record.partition)
            ends[partition] = max(record.offset + 1, ends.get(partition, 0))
        following = record
    return ends
