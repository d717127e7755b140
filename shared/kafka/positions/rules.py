"""Decides where a consumer starts a partition, or that it must not start. Does no I/O.

A consumer stores its position in Postgres (ADR 0030). Every transaction of a batch locks the
positions. The last one moves them: either a transaction of the work, or a separate one after it.
"""

from enum import StrEnum
from typing import NamedTuple


class Refusal(StrEnum):
    """The reason why a partition waits until an operator accepts a loss with `pinflow recover`."""

    BEFORE_BEGIN = "before_begin"
    """Kafka has deleted unprocessed records: its retention was too short."""
    BEYOND_END = "beyond_end"
    """Kafka's log ends before the position: Kafka has lost its last records."""
    OTHER_CLUSTER = "other_cluster"
    """The position belongs to another Kafka cluster."""


class StoredPosition(NamedTuple):
    """A row of a service's table `positions`."""

    next_offset: int
    """The offset up to which all work is stored in Postgres."""
    cluster_id: str
    replay_until: int | None = None
    """The end of a replay: the group's committed offset when an older Postgres was noticed. Records
    before it are processed again."""
    refused: Refusal | None = None


class PartitionLog(NamedTuple):
    """A partition's bounds in Kafka, and the group's committed offset there."""

    begin: int
    """The first offset that Kafka still has."""
    end: int
    """The offset after the last record."""
    committed: int | None
    """The group's committed offset. None if it has none."""


class PartitionStart(NamedTuple):
    """Defines where a partition's consumption starts, and whether that is a replay."""

    offset: int
    replay_until: int | None
    """The group's committed offset if Postgres is older than Kafka, otherwise None."""


def compare_with_log(
    stored: StoredPosition, log: PartitionLog, cluster_id: str
) -> PartitionStart | Refusal:
    """Returns the lower of the stored position and the committed offset, or a refusal to start.

    A committed offset that is missing or before the log counts as the log's first offset. One after
    the log's end counts as the end: Postgres does not have those records either. A stored refusal
    stays until an operator accepts the loss: the log may have grown past the position since.
    """
    if stored.refused is not None:
        return stored.refused
    if stored.cluster_id != cluster_id:
        return Refusal.OTHER_CLUSTER
    if stored.next_offset < log.begin:
        return Refusal.BEFORE_BEGIN
    if stored.next_offset > log.end:
        return Refusal.BEYOND_END
    committed = min(max(log.committed or 0, log.begin), log.end)
    is_behind = stored.next_offset < committed
    return PartitionStart(min(stored.next_offset, committed), committed if is_behind else None)
