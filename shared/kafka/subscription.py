"""Describes what a service consumes, and with which delivery guarantees. Does no I/O.

Every service builds its Subscription in app.py: what Kafka and Postgres guarantee stands there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from shared.contract.topics import TOPICS, TopicName

SESSION_TIMEOUT_MS = 30_000

Isolation = Literal["read_committed", "read_uncommitted"]
OffsetReset = Literal["earliest", "none"]


class Acknowledgement(StrEnum):
    """When a batch counts as processed. Either way it is processed at least once."""

    OFFSET_AFTER_WORK = "offset_after_work"
    """Commits the offset to Kafka after the batch's work is durable."""
    POSITION_WITH_WORK = "position_with_work"
    """Stores the position in Postgres in the transaction of the batch's work (ADR 0030). Then
    commits it to Kafka too: the group's lag is read there."""


class FetchSettings(NamedTuple):
    """How long a broker holds a fetch back so that more records come together."""

    min_bytes: int = 1
    """The broker answers at once when so many bytes are there."""
    wait_ms: int = 500
    """The broker answers after this time even with less."""
    partition_bytes: int | None = None
    """The largest part of one partition in an answer. None: as much as its topic's largest record.

    aiokafka sends a broker one fetch at a time. While idle partitions hold a fetch back for
    `wait_ms`, a busy one waits too: so it gets at most this in each `wait_ms`.
    """


FETCH_AT_ONCE = FetchSettings()


class RecordFilter:
    """Says which records of a topic a consumer wants, by their values.

    Unwanted records are skipped before they become objects, which is most of what reading costs.
    `ends_early(first, count)` says whether, in a batch of `count` records that begins with the
    value `first`, all wanted records come before the unwanted ones. The rest of such a batch is
    not looked at.
    """

    def __init__(
        self,
        topic: str,
        wants: Callable[[bytes | None], bool],
        ends_early: Callable[[bytes | None, int], bool] = lambda _first, _count: False,
    ) -> None:
        self.topic = topic
        self.wants = wants
        self.ends_early = ends_early

    def __call__(self, value: bytes | None) -> bytes | None:
        """Returns the value unchanged: to aiokafka a filter is a value deserializer."""
        return value


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Describes one subscriber. Raises ValueError for guarantees that do not fit together."""

    name: str
    """The service's name. It names the consumer group and the metrics."""
    topics: tuple[TopicName, ...]
    isolation: Isolation
    offset_reset: OffsetReset
    """Where a partition starts without a committed offset. "none": at its position in Postgres."""
    acknowledgement: Acknowledgement
    max_records: int
    """The most records of one batch."""
    session_timeout_ms: int = SESSION_TIMEOUT_MS
    """How long a member may be silent, and how long a rebalance waits for it."""
    fetch: FetchSettings = FETCH_AT_ONCE
    record_filter: RecordFilter | None = None

    def __post_init__(self) -> None:
        is_committed_only = self.isolation == "read_committed"
        if TopicName.IMPORT_REQUESTS in self.topics and not is_committed_only:
            # An upstream system may produce in transactions. Pinflow itself does not
            raise ValueError(f"{self.name}: {TopicName.IMPORT_REQUESTS} must be read committed")
        if self.record_filter is not None and is_committed_only:  # aborted records would pass it
            raise ValueError(
                f"{self.name}: topics that are read committed can't have a record filter"
            )
        if self.has_positions != (self.offset_reset == "none"):
            raise ValueError(
                f"{self.name}: offset_reset 'none' goes with {Acknowledgement.POSITION_WITH_WORK}"
            )

    @property
    def has_positions(self) -> bool:
        """Whether the positions are in Postgres."""
        return self.acknowledgement is Acknowledgement.POSITION_WITH_WORK

    @property
    def partition_bytes(self) -> int:
        """Returns the most bytes of one partition in a fetch."""
        largest = max(topic.fetch_bytes for topic in TOPICS if topic.name in self.topics)
        return self.fetch.partition_bytes or largest
