"""A dead letter as an operator sees it. Its bytes are not kept: there may be gigabytes of them."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from deploy.cli.row_id import RowId
from shared.contract.topics import TopicName

REPLAYABLE = tuple(topic for topic in TopicName if topic is not TopicName.DEAD_LETTERS)
"""What services consume. A letter that says it came from anywhere else was not written by one."""
MAX_REPLAYS = 3
"""After so many replays a letter that is poison again stays."""
_NAME = re.compile(r"(\d{1,9}):(\d{1,18})")


class DeadLetterName(NamedTuple):
    """Where a letter lies on `dead-letters`: what people call it by."""

    partition: int
    offset: int

    @classmethod
    def from_text(cls, text: str) -> "DeadLetterName":
        """Raises ValueError."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text} is no dead letter's name: partition:offset is, for example 0:17. See: "
                "pinflow dead-letters list"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """What can't be known, as nobody can read it, is None or empty."""

    name: DeadLetterName
    given_up_at: datetime
    topic: TopicName | None
    """Where it is from; None for a topic that no service consumes."""
    topic_name: str
    """The same as Kafka knows it."""
    partition: str
    offset: str
    service: str
    code: str
    message: str
    first_seen: str
    replays: int
    size: int
    """Bytes of key, headers and value."""
    cut: bool
    workspace_id: UUID | None = None
    job_id: UUID | None = None
    row: RowId | None = None
    """The row that it is, if the publisher could name it: then it has settled."""
    has_content: bool = False
    """Whether what the row asks for can still be read."""

    def document(self) -> dict[str, Any]:
        """For tables and JSON."""
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
    """Says that a letter was replayed.

    It stands on `dead-letters`, written once the replayed record is acknowledged.
    """

    name: DeadLetterName
    replayed_at: datetime
    replayed_as: str
