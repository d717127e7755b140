"""Defines all topics: name, partitions, retention and size limits."""

from dataclasses import dataclass, field
from enum import StrEnum

from shared.contract.import_limits import MAX_PACKED_IMPORT_BYTES, MAX_REQUEST_BYTES, MEBIBYTE

DAY_MS = 24 * 60 * 60 * 1000
MAX_RECORD_BYTES = 7 * MEBIBYTE
"""Maximum record size of all producers except ingest's import log.

The dead letter of the largest request fits.
"""
PARTITIONS = 6
"""Partitions of a new topic unless PINFLOW_TOPIC_PARTITIONS is set.

At most this many consumers can share a topic. Throughput is the same with 4, 6 and 12.
"""


class TopicName(StrEnum):
    IMPORT_REQUESTS = "import-requests"
    IMPORTS = "imports"
    OUTCOMES = "outcomes"
    JOB_EVENTS = "job-events"
    PIN_EVENTS = "pin-events"
    DELIVERIES = "deliveries"
    DEAD_LETTERS = "dead-letters"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic and its configuration.

    Retention is long, because a record must outlive any backlog. An alert on the age of the oldest
    unprocessed record fires long before Kafka deletes it.
    """

    name: TopicName
    version: int = 1
    """Part of the topic's name. If the meaning of records changes, increase it for a new topic."""
    partitions: int | None = None
    """Partitions of a new topic, or None for the setting. An existing topic keeps its number."""
    retention_ms: int = 7 * DAY_MS
    max_record_bytes: int = MEBIBYTE
    """Maximum size of a record batch after compression. Kafka limits batches, not records."""
    fetch_bytes: int = MEBIBYTE
    """Bytes that a consumer fetches from a partition at once. This bounds its memory.

    A larger batch is fetched alone: Kafka answers a fetch with at least one batch (KIP-74).
    """
    config: dict[str, str] = field(default_factory=dict)

    def choose_partition_count(self, setting: int) -> int:
        return self.partitions or setting

    def configuration(self) -> dict[str, str]:
        return {
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_record_bytes),
            "cleanup.policy": "delete",
            # The broker decompresses batches of other producers. So its limit applies to the real
            # size, and other consumers need no codec. (Pinflow's consumers read every codec: an
            # operator may have created the topic or changed its configuration.)
            "compression.type": "uncompressed",
            **self.config,
        }


_AS_PRODUCED = {"compression.type": "producer"}
"""For topics that only Pinflow's services write.

The broker stores a batch as it was sent: ingest and the publisher compress theirs
(docs/decisions/0011 and 0050).
"""

TOPICS: tuple[Topic, ...] = (
    Topic(
        TopicName.IMPORT_REQUESTS, max_record_bytes=MAX_REQUEST_BYTES, fetch_bytes=MAX_REQUEST_BYTES
    ),
    Topic(
        TopicName.IMPORTS, version=2, max_record_bytes=MAX_PACKED_IMPORT_BYTES, config=_AS_PRODUCED
    ),
    Topic(TopicName.OUTCOMES, config=_AS_PRODUCED),
    Topic(TopicName.JOB_EVENTS),
    Topic(TopicName.PIN_EVENTS, config=_AS_PRODUCED),
    # Kept for as long as a backup may be old: after a restore, what may have been sent is read here
    Topic(TopicName.DELIVERIES, retention_ms=30 * DAY_MS, config=_AS_PRODUCED),
    Topic(
        TopicName.DEAD_LETTERS,
        partitions=3,
        retention_ms=30 * DAY_MS,
        max_record_bytes=MAX_RECORD_BYTES,
    ),
)


_VERSIONS = {topic.name: topic.version for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Full names in Kafka: `<prefix>.<name>.v<version>`.

    The prefix separates installations (and tests) on one cluster.
    """

    prefix: str = "pinflow"

    def __getitem__(self, name: TopicName) -> str:
        return f"{self.prefix}.{name}.v{_VERSIONS[name]}"

    def group(self, service: str) -> str:
        """Returns the consumer group of a service."""
        return f"{self.prefix}.{service}"
