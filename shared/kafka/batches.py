"""Defines a batch of fetched records, what a service does with one, and its offsets."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from aiokafka import ConsumerRecord, TopicPartition

from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance

Decoded = TypeVar("Decoded")
Batch = Sequence["ConsumerRecord[bytes, bytes]"]


class BatchHandler(Protocol[Decoded]):
    """Processes a service's batches. Called by BatchConsumer.

    Decoding is a step of its own, so that a flood of poison is noticed before anything is written.
    """

    def decode(self, records: Batch) -> tuple[list[Decoded], list[DeadLetter]]:
        """Parses all records. A record that can't be parsed is poison: returns it as a dead letter.

        Does no I/O. A large batch comes in chunks, one call each.
        """

    async def process(
        self, decoded: list[Decoded], poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        """Makes the whole batch durable, idempotently. Returns the dead letters found on the way.

        Every transaction holds the advance. A single transaction may also move the positions, and
        then sets `advance.is_stored`. Raises Unavailable to try again.
        """


def find_first_offsets(records: Batch) -> dict[TopicPartition, int]:
    """Returns the lowest offset of each partition."""
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


def find_end_offsets(records: Batch) -> dict[TopicPartition, int]:
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
