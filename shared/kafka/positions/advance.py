"""Defines the positions that a batch's transactions lock and move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka import TopicPartition


class Span(NamedTuple):
    """A batch's part of one partition."""

    start: int
    """The position before its fetch."""
    end: int
    """The offset behind its last record."""


@dataclass(slots=True, eq=False)
class Advance:
    """The positions of a batch. Its transactions lock them; the last transaction moves them."""

    spans: Mapping[TopicPartition, Span] = field(default_factory=dict)
    checked_at: float = 0.0
    """When the positions were last read, by the monotonic clock. A later connection to Postgres may
    lead to an older copy."""
    is_stored: bool = False
    """Whether a transaction that moved the positions was committed."""

    def is_beyond(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Tells whether a log ends before the position where the batch started."""
        return any(ends[partition] < span.start for partition, span in self.spans.items())

    def offsets(self) -> dict[TopicPartition, int]:
        """Returns the offsets to commit to Kafka."""
        return {partition: span.end for partition, span in self.spans.items()}

    def columns(self) -> tuple[list[str], list[int], list[int], list[int]]:
        """Returns topics, partitions, starts and ends."""
        spans: Sequence[tuple[TopicPartition, Span]] = sorted(self.spans.items())
        return (
            [partition.topic for partition, _ in spans],
            [partition.partition for partition, _ in spans],
            [span.start for _, span in spans],
            [span.end for _, span in spans],
        )
