"""Describes what a service consumes, and with which delivery guarantees. Does no I/O.

Every service builds its Subscription in app.py, with all guarantees written out.
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
    """The moment at which a batch is acknowledged. Either way it is processed at least once."""

    OFFSET_AFTER_WORK = "offset_after_work"
    """Commits the offset to Kafka after the batch's work is durable."""
    POSITION_WITH_WORK = "position_with_work"
    """Stores the position in Postgres with the batch's work (ADR 0030). Then also commits it to
    Kafka, because lag is measured there."""


class FetchSettings(NamedTuple):
    """The limits on how long a broker holds a fetch to collect more records."""

    min_bytes: int = 1
    """The broker answers as soon as it has this many bytes."""
    wait_ms: int = 500
    """The broker answers after this time at the latest."""
    partition_bytes: int | None = None
    """Maximum bytes of one partition in an answer. None: the largest `fetch_bytes` of the topics.

    aiokafka sends each broker one fetch at a time. If idle partitions keep that fetch waiting for
    `wait_ms`, a partition with records waits too. Such a partition gets at most these bytes per
    `wait_ms`.
    """


FETCH_AT_ONCE = FetchSettings()


class RecordFilter:
    """Selects the records of a topic that a consumer wants, by their values.

    No object is created for an unwanted record: creating objects is most of the cost of reading.
    `wants(value)` returns whether a record is wanted. `ends_early(first, count)` looks at
    a batch of `count` records that begins with the value `first`. It returns whether all wanted
    records come before the unwanted ones. Then the batch is read up to the first unwanted record.
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
        """Returns the value unchanged. The filtering happens in aiokafka_internals.py.

        The filter is callable because aiokafka receives it as the value deserializer, where
        `_FilteredRecords` finds it.
        """
        return value


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Describes one subscriber. Raises ValueError if its guarantees contradict each other."""

    name: str
    """The service's name. It names the consumer group and the metrics."""
    topics: tuple[TopicName, ...]
    isolation: Isolation
    offset_reset: OffsetReset
    """The start of a partition without a committed offset. "none": its position in Postgres."""
    acknowledgement: Acknowledgement
    max_records: int
    """Maximum records of one batch."""
    session_timeout_ms: int = SESSION_TIMEOUT_MS
    """The session and rebalance timeout of a member. After it, the group removes the member."""
    fetch: FetchSettings = FETCH_AT_ONCE
    record_filter: RecordFilter | None = None

    def __post_init__(self) -> None:
        is_committed_only = self.isolation == "read_committed"
        if TopicName.IMPORT_REQUESTS in self.topics and not is_committed_only:
            # An upstream system may produce in transactions. Pinflow does not
            raise ValueError(
                f"{self.name}: {TopicName.IMPORT_REQUESTS} needs isolation='read_committed'"
            )
        if self.record_filter is not None and is_committed_only:  # it would pass aborted records
            raise ValueError(f"{self.name}: a record filter needs isolation='read_uncommitted'")
        if self.has_positions != (self.offset_reset == "none"):
            raise ValueError(
                f"{self.name}: use offset_reset='none' if and only if it uses "
                f"{Acknowledgement.POSITION_WITH_WORK}"
            )

    @property
    def has_positions(self) -> bool:
        """True if the positions are stored in Postgres."""
        return self.acknowledgement is Acknowledgement.POSITION_WITH_WORK

    @property
    def partition_bytes(self) -> int:
        """Maximum bytes of one partition in a fetch."""
        largest = max(topic.fetch_bytes for topic in TOPICS if topic.name in self.topics)
        return self.fetch.partition_bytes or largest
