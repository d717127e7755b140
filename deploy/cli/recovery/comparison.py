"""Compares a stored position with Kafka's log. Does no I/O."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from deploy.cli.recovery.positions import (
    RESTARTING,
    WITHOUT_GROUP,
    PartitionFilter,
    PositionOwner,
)
from shared.contract.topics import TopicName
from shared.kafka.positions.rules import (
    PartitionLog,
    PartitionStart,
    Refusal,
    StoredPosition,
    compare_with_log,
)


class PositionState(StrEnum):
    """Classifies a stored position by comparison with Kafka's log."""

    OK = "ok"
    BEHIND = "behind"
    """Postgres is older: the service processes records a second time, without an operator."""
    LOST = "lost"
    """Kafka deleted records before they were processed."""
    AHEAD = "ahead"
    """Kafka is older: it has fewer records than were processed."""
    FOREIGN = "foreign"
    """The position belongs to another Kafka cluster."""
    NEW = "new"
    """No position is stored yet."""


_STATES_BY_REFUSAL = {
    Refusal.BEFORE_BEGIN: PositionState.LOST,
    Refusal.BEYOND_END: PositionState.AHEAD,
    Refusal.OTHER_CLUSTER: PositionState.FOREIGN,
}
_REFUSED_STATES = frozenset(_STATES_BY_REFUSAL.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """One service's position in one partition, compared with Kafka's log there."""

    service: PositionOwner
    topic: TopicName
    topic_name: str
    """The topic's name in Kafka."""
    partition: int
    stored: StoredPosition | None
    log: PartitionLog | None
    """None if Kafka has no such partition."""
    state: PositionState
    records: int | None
    """Behind: records to process again. Lost and ahead: records that Kafka no longer has. New:
    records to process. None if the number is unknown."""

    @property
    def key(self) -> tuple[PositionOwner, str, int]:
        """The service, topic and partition of the position."""
        return self.service, self.topic_name, self.partition

    @property
    def must_be_accepted(self) -> bool:
        """True if the service does not read the partition until an operator accepts the loss.

        The publisher reads `outcomes` again from the log's beginning, automatically.
        """
        return self.state in _REFUSED_STATES and (self.service, self.topic) not in RESTARTING

    @property
    def committed_beyond_end(self) -> int:
        """The number of records that the group had processed and that Kafka no longer has."""
        if self.log is None or self.log.committed is None:
            return 0
        return max(0, self.log.committed - self.log.end)

    @property
    def log_end(self) -> int:
        """The offset after the last record. 0 if Kafka has no such partition."""
        return self.log.end if self.log else 0

    @property
    def lag(self) -> int:
        """The number of records that are not completely processed.

        They begin at the stored position or the committed offset, whichever is lower. If either is
        missing, they begin at the log's beginning.
        """
        if self.log is None:
            return 0
        begin, end, committed = self.log
        processed = min(
            self.stored.next_offset if self.stored else begin,
            begin if committed is None else committed,
        )
        return max(0, end - max(processed, begin))

    def document(self) -> dict[str, Any]:
        """Returns the comparison for tables and JSON."""
        stored, log = self.stored, self.log
        return {
            "service": self.service,
            "topic": self.topic_name,
            "partition": self.partition,
            "stored": stored.next_offset if stored else None,
            "committed": log.committed if log else None,
            "begin": log.begin if log else None,
            "end": log.end if log else None,
            "replay_until": stored.replay_until if stored else None,
            "refused": stored.refused if stored else None,
            "state": self.state,
            "records": self.records,
        }


def compare(
    service: PositionOwner,
    topic: TopicName,
    topic_name: str,
    partition: int,
    stored: StoredPosition | None,
    log: PartitionLog | None,
    cluster_id: str,
) -> Comparison:
    """Compares one partition by the same rule by which a service starts to read it.

    If the service reads the topic without a consumer group, the stored position counts as
    committed.
    """
    if stored is not None and log is not None and (service, topic) in WITHOUT_GROUP:
        log = log._replace(committed=stored.next_offset)
    state, records = _classify(stored, log, cluster_id)
    return Comparison(service, topic, topic_name, partition, stored, log, state, records)


def _classify(
    stored: StoredPosition | None,
    log: PartitionLog | None,
    cluster_id: str,
) -> tuple[PositionState, int | None]:
    if stored is None:
        return PositionState.NEW, _count_unread(log)
    if log is None:
        if stored.cluster_id != cluster_id:
            return PositionState.FOREIGN, None
        return PositionState.AHEAD, stored.next_offset
    verdict = compare_with_log(stored, log, cluster_id)
    if isinstance(verdict, PartitionStart):
        records = _count_replayed(stored, log, verdict)
        return (PositionState.BEHIND, records) if records else (PositionState.OK, 0)
    return _STATES_BY_REFUSAL[verdict], _count_missing(verdict, stored, log)


def _count_unread(log: PartitionLog | None) -> int:
    return log.end - log.begin if log else 0


def _count_replayed(stored: StoredPosition, log: PartitionLog, start: PartitionStart) -> int:
    """Counts the records to process again: from the position, also if a replay has begun."""
    until = min(max(start.replay_until or 0, stored.replay_until or 0), log.end)
    return max(0, until - stored.next_offset)


def _count_missing(refusal: Refusal, stored: StoredPosition, log: PartitionLog) -> int | None:
    match refusal:
        case Refusal.BEFORE_BEGIN:
            missing = log.begin - stored.next_offset
        case Refusal.BEYOND_END:
            missing = stored.next_offset - log.end
        case Refusal.OTHER_CLUSTER:
            return None
    # A stored refusal stays after the log has grown past the position: the loss is unknown then
    return missing if missing > 0 else None


@dataclass(frozen=True, slots=True)
class AcceptedLoss:
    """An accepted loss in one partition, and the new position."""

    comparison: Comparison
    next_offset: int | None
    """The new position. None if Kafka has no such partition: then the position was deleted."""

    def document(self) -> dict[str, Any]:
        """Returns the accepted loss for tables and JSON."""
        comparison = self.comparison
        return {
            "service": comparison.service,
            "topic": comparison.topic_name,
            "partition": comparison.partition,
            "was": comparison.stored.next_offset if comparison.stored else None,
            "now": self.next_offset,
        }


def select(
    comparisons: Iterable[Comparison], partition_filter: PartitionFilter
) -> list[Comparison]:
    """Returns the comparisons that match the filter."""
    return [
        comparison
        for comparison in comparisons
        if partition_filter.matches(comparison.service, comparison.topic, comparison.partition)
    ]


def find_unaccepted(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Returns the comparisons whose loss an operator must accept."""
    return [comparison for comparison in comparisons if comparison.must_be_accepted]


def find_unchanged(now: Iterable[Comparison], shown: Iterable[Comparison]) -> list[Comparison]:
    """Returns the losses that still have the state in which the operator saw them."""
    states = {comparison.key: comparison.state for comparison in shown}
    return [loss for loss in find_unaccepted(now) if states.get(loss.key) is loss.state]


def count_states(comparisons: Iterable[Comparison]) -> dict[str, int]:
    """Counts partitions by state, in an entry for each state."""
    counts = Counter(comparison.state for comparison in comparisons)
    return {str(state): counts[state] for state in PositionState}
