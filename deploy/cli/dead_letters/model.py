"""Describes dead letters as operators see them, without their bytes: these may be gigabytes."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from deploy.cli.row_id import RowId
from shared.contract.topics import TopicName

REPLAYABLE_TOPICS = tuple(topic for topic in TopicName if topic is not TopicName.DEAD_LETTERS)
"""The topics that services read. No service writes a dead letter with another source topic."""
MAX_REPLAYS = 3
"""A dead letter that was replayed this often is in quarantine: it needs `--force`."""
_NAME_PATTERN = re.compile(r"(\d{1,9}):(\d{1,18})")


class DeadLetterName(NamedTuple):
    """Identifies a dead letter by its partition and offset on `dead-letters`."""

    partition: int
    offset: int

    @classmethod
    def from_text(cls, text: str) -> "DeadLetterName":
        """Parses partition:offset. Raises ValueError."""
        match = _NAME_PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text} is not the name of a dead letter. A name is partition:offset, like 0:17. "
                "See the names with: pinflow dead-letters list"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as read from `dead-letters`.

    A field is None or empty if it can't be read from the record.
    """

    name: DeadLetterName
    given_up_at: datetime
    """The time at which a service gave the record up and wrote the dead letter."""
    topic: TopicName | None
    """The source topic. None if no service reads that topic."""
    topic_name: str
    """The source topic's name in Kafka."""
    partition: str
    """The record's partition on the source topic."""
    offset: str
    """The record's offset on the source topic."""
    service: str
    code: str
    message: str
    first_seen: str
    replays: int
    size: int
    """The bytes of key, headers and value."""
    is_truncated: bool
    """True if the record was too large, so that the dead letter lacks some of its bytes."""
    workspace_id: UUID | None = None
    job_id: UUID | None = None
    row: RowId | None = None
    """The row of the record, if it can be identified. The publisher records such a row as failed
    before it writes the dead letter."""
    has_content: bool = False
    """True if the row's fields can still be read."""

    def document(self) -> dict[str, Any]:
        """Returns the fields for tables and JSON."""
        return {
            "name": str(self.name),
            "topic": self.topic or self.topic_name,
            "partition": self.partition,
            "offset": self.offset,
            "service": self.service,
            "given_up_at": self.given_up_at,
            "first_seen": self.first_seen,
            "replays": self.replays,
            "bytes": self.size,
            "workspace_id": self.workspace_id,
            "job_id": self.job_id,
            "row_number": self.row.row_number if self.row else None,
            "code": self.code,
            "message": self.message,
        }


class ReplayMarker(NamedTuple):
    """A record on `dead-letters` that marks a dead letter as replayed.

    It is written after Kafka has acknowledged the replayed record.
    """

    name: DeadLetterName
    replayed_at: datetime
    replayed_as: str
