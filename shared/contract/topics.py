"""Every topic, in one place: its name, partitions, what it keeps and how large a record may be."""

from dataclasses import dataclass, field
from enum import StrEnum

from shared.contract.import_limits import MAX_PACKED_IMPORT_BYTES, MAX_REQUEST_BYTES, MEBIBYTE

DAY_MS = 24 * 60 * 60 * 1000
MAX_RECORD_BYTES = 7 * MEBIBYTE
"""What producers and consumers must be able to carry: the dead letter of the largest request."""
PARTITIONS = 6
"""Of a new topic, unless PINFLOW_TOPIC_PARTITIONS says otherwise: so many members of a group can
share it. Speed is alike with 4, 6, 12.
"""


class TopicName(StrEnum):
    IMPORT_REQUESTS = "import-requests"
    IMPORTS = "imports"
    OUTCOMES = "outcomes"
    JOB_EVENTS = "job-events"
    PIN_EVENTS = "pin-events"
    DEAD_LETTERS = "dead-letters"


@dataclass(frozen=True, slots=True)
class Topic:
    """Retention is generous: a record must outlive any backlog.

    An alert on the oldest record's age comes long before.
    """

    name: TopicName
    version: int = 1
    """A part of the topic's name. Raise it, for a new topic, if records get another meaning."""
    partitions: int | None = None
    """None: as many as the setting says. What a topic has, once it is there, Kafka tells."""
    retention_ms: int = 7 * DAY_MS
    max_record_bytes: int = MEBIBYTE
    """Bytes of the largest record, or batch after compression: Kafka limits batches."""
    fetch_bytes: int = MEBIBYTE
    """Bytes that a consumer fetches of a partition at once, which bounds its memory. A larger batch
    comes all the same, alone: Kafka answers a fetch with at least one batch (KIP-74)."""
    config: dict[str, str] = field(default_factory=dict)

    def choose_partition_count(self, setting: int) -> int:
        return self.partitions or setting

    def configuration(self) -> dict[str, str]:
        return {
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_record_bytes),
            "cleanup.policy": "delete",
            # The broker unpacks what others compressed: so its limit is on the real size, and
            # whoever listens needs no codec. (Our consumers can read every codec all the same: a
            # topic may have been made by others, or its configuration changed.)
            "compression.type": "uncompressed",
            **self.config,
        }


_AS_PRODUCED = {"compression.type": "producer"}
"""Only services produce there and only services listen: ingest compresses, the broker leaves it so
(docs/decisions/0011).
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
    Topic(TopicName.PIN_EVENTS),
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
    """The names as Kafka knows them: `<prefix>.<name>.v<version>`.

    The prefix keeps installations (and tests) on one cluster apart.
    """

    prefix: str = "pinflow"

    def __getitem__(self, name: TopicName) -> str:
        return f"{self.prefix}.{name}.v{_VERSIONS[name]}"

    def group(self, service: str) -> str:
        """The consumer group of one service."""
        return f"{self.prefix}.{service}"
