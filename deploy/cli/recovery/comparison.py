"""Compares a stored position with Kafka's log. Does no I/O."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from deploy.cli.recovery.selection import WITHOUT_GROUP, Selection, Service
from shared.contract.topics import TopicName
from shared.kafka.positions.rules import (
    PartitionLog,
    PartitionStart,
    Refusal,
    StoredPosition,
    compare_with_log,
)


class State(StrEnum):
    """Classifies a stored position by comparison with Kafka's log."""

    OK = "ok"
    BEHIND = "behind"
    """Postgres is older: records are processed a second time. It heals by itself."""
    LOST = "lost"
    """Kafka deleted records before they were processed."""
    AHEAD = "ahead"
    """Kafka is older: it has fewer records than were processed."""
    FOREIGN = "foreign"
    """The position belongs to another Kafka cluster."""
    NEW = "new"
    """No position is stored yet."""


_STATES = {
    Refusal.BEFORE_BEGIN: State.LOST,
    Refusal.BEYOND_END: State.AHEAD,
    Refusal.OTHER_CLUSTER: State.FOREIGN,
}
_REFUSED = frozenset(_STATES.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """One service's position in one partition, beside what Kafka has there."""

    service: Service
    topic: TopicName
    topic_name: str
    """The topic's name in Kafka."""
    partition: int
    stored: StoredPosition | None
    log: PartitionLog | None
    """None if Kafka has no such partition."""
    state: State
    records: int | None
    """Behind: records to process again. Lost and ahead: records that Kafka no longer has. New:
    records to process. None if nobody can tell."""

    @property
    def place(self) -> tuple[Service, str, int]:
        """The service, topic and partition of the position."""
        return self.service, self.topic_name, self.partition

    @property
    def must_be_accepted(self) -> bool:
        """Whether the service does not consume the partition until an operator accepts the loss.

        Where it has no consumer group it goes on by itself, from the log's beginning.
        """
        return self.state in _REFUSED and (self.service, self.topic) not in WITHOUT_GROUP

    @property
    def committed_beyond_end(self) -> int:
        """The records that the group had processed and that Kafka no longer has."""
        if self.log is None or self.log.committed is None:
            return 0
        return max(0, self.log.committed - self.log.end)

    @property
    def log_end(self) -> int:
        """The offset behind the last record. 0 if Kafka has no such partition."""
        return self.log.end if self.log else 0

    @property
    def lag(self) -> int:
        """The records that are not completely processed: neither stored nor committed."""
        if self.log is None:
            return 0
        begin, end, committed = self.log
        done = min(
            self.stored.next_offset if self.stored else begin,
            begin if committed is None else committed,
        )
        return max(0, end - max(done, begin))

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
    service: Service,
    topic: TopicName,
    topic_name: str,
    partition: int,
    stored: StoredPosition | None,
    log: PartitionLog | None,
    cluster_id: str,
) -> Comparison:
    """Judges one partition by the rule that services start by.

    Where the service has no consumer group, the stored position counts as committed.
    """
    if stored is not None and log is not None and (service, topic) in WITHOUT_GROUP:
        log = log._replace(committed=stored.next_offset)
    state, records = _judge(stored, log, cluster_id)
    return Comparison(service, topic, topic_name, partition, stored, log, state, records)


def _judge(
    stored: StoredPosition | None,
    log: PartitionLog | None,
    cluster_id: str,
) -> tuple[State, int | None]:
    if stored is None:
        return State.NEW, _unread(log)
    if log is None:
        is_foreign = stored.cluster_id != cluster_id
        return (State.FOREIGN, None) if is_foreign else (State.AHEAD, stored.next_offset)
    verdict = compare_with_log(stored, log, cluster_id)
    if isinstance(verdict, PartitionStart):
        again = _replayed(stored, log, verdict)
        return (State.BEHIND, again) if again else (State.OK, 0)
    return _STATES[verdict], _missing(verdict, stored, log)


def _unread(log: PartitionLog | None) -> int:
    return log.end - log.begin if log else 0


def _replayed(stored: StoredPosition, log: PartitionLog, start: PartitionStart) -> int:
    """Counts the records to process again. A replay that has begun goes on from the position."""
    until = min(max(start.replay_until or 0, stored.replay_until or 0), log.end)
    return max(0, until - stored.next_offset)


def _missing(refusal: Refusal, stored: StoredPosition, log: PartitionLog) -> int | None:
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
class Acceptance:
    """An accepted loss in one partition, and the new position."""

    comparison: Comparison
    next_offset: int | None
    """The new position. None: Kafka has no such partition, so the position was deleted."""

    def document(self) -> dict[str, Any]:
        """Returns the acceptance for tables and JSON."""
        comparison = self.comparison
        return {
            "service": comparison.service,
            "topic": comparison.topic_name,
            "partition": comparison.partition,
            "was": comparison.stored.next_offset if comparison.stored else None,
            "now": self.next_offset,
        }


def selected(comparisons: Iterable[Comparison], selection: Selection) -> list[Comparison]:
    """Returns the comparisons that a selection takes."""
    return [
        found
        for found in comparisons
        if selection.takes(found.service, found.topic, found.partition)
    ]


def unaccepted(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Returns the comparisons whose loss an operator must accept."""
    return [comparison for comparison in comparisons if comparison.must_be_accepted]


def acceptable(now: Iterable[Comparison], shown: Iterable[Comparison]) -> list[Comparison]:
    """Returns the losses that the operator saw in the same state as now."""
    seen = {comparison.place: comparison.state for comparison in shown}
    return [loss for loss in unaccepted(now) if seen.get(loss.place) is loss.state]


def counts(comparisons: Iterable[Comparison]) -> dict[str, int]:
    """Counts partitions by state. Every state is there."""
    found = Counter(comparison.state for comparison in comparisons)
    return {str(state): found[state] for state in State}
