"""Defines a batch of fetched records, its handler and its offsets."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from aiokafka import ConsumerRecord, TopicPartition

from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance

Decoded = TypeVar("Decoded")
Batch = Sequence["ConsumerRecord[bytes, bytes]"]


class BatchHandler(Protocol[Decoded]):
    """Processes a service's batches. Called by BatchConsumer.

    Decoding is a separate step, so that too much poison is noticed before anything is written.
    """

    def decode(self, records: Batch) -> tuple[list[Decoded], list[DeadLetter]]:
        """Parses all records. Returns a record that can't be parsed as a dead letter.

        Does no I/O. Called once for each chunk of a large batch.
        """

    async def process(
        self, decoded: list[Decoded], poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        """Makes the whole batch durable, idempotently. Returns further dead letters.

        Every transaction locks the advance's positions. If there is only one transaction, it may
        also move them. Call PositionStore.mark_stored after its commit. Raises Unavailable if the
        batch must be retried.
        """


def find_first_offsets(records: Batch) -> dict[TopicPartition, int]:
    """Returns the lowest offset of each partition."""
    first: dict[TopicPartition, int] = {}
    previous = None
    for record in records:
        # Records come in runs of one partition with rising offsets. So only the first record of a
        # run can have the lowest offset
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
    """Returns for each partition the offset after its last record."""
    ends: dict[TopicPartition, int] = {}
    # Only the last record of a run can have the highest offset
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
