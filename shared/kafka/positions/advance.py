"""Defines how far a batch advances the stored positions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka import TopicPartition


class Span(NamedTuple):
    """A batch's part of one partition."""

    start: int
    """The position before its fetch."""
    end: int
    """The offset after its last record."""


@dataclass(slots=True, eq=False)
class Advance:
    """The positions before and after a batch. Its transactions lock the positions, and the last one
    moves them."""

    spans: Mapping[TopicPartition, Span] = field(default_factory=dict)
    checked_at: float = 0.0
    """When the positions were last read, by the monotonic clock. A later connection may lead to
    another, older Postgres."""
    is_stored: bool = False
    """True if a transaction that moved the positions was committed."""

    def is_beyond(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Returns whether a partition's log ends before the position where the batch started."""
        return any(ends[partition] < span.start for partition, span in self.spans.items())

    def offsets(self) -> dict[TopicPartition, int]:
        """Returns the offsets to commit to Kafka."""
        return {partition: span.end for partition, span in self.spans.items()}

    def columns(self) -> tuple[list[str], list[int], list[int], list[int]]:
        """Returns topics, partitions, starts and ends, in the same order."""
        spans: Sequence[tuple[TopicPartition, Span]] = sorted(self.spans.items())
        return (
            [partition.topic for partition, _ in spans],
            [partition.partition for partition, _ in spans],
            [span.start for _, span in spans],
            [span.end for _, span in spans],
        )
