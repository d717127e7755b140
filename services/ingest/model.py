"""The types of an import that HTTP and the topic `import-requests` share. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.ingest.parsing.rows import ParsedRows
from shared.contract.events import SourceType, UploadFormat
from shared.kafka.records import Header


class RawUpload(NamedTuple):
    """The original file or body that a client sent."""

    format: UploadFormat
    data: bytes


@dataclass(frozen=True, slots=True)
class Import:
    """A parsed import, from which its record batch is built."""

    job_id: UUID
    workspace_id: UUID
    accepted_at: datetime
    source_type: SourceType
    source_filename: str | None
    rows: ParsedRows
    request_id: str | None = None
    replay_headers: Sequence[Header] = field(default_factory=tuple)
    """The headers that count how often the request was replayed. Every record gets them."""
    upload: RawUpload | None = None
    """None if uploads are not kept."""


class ImportEnd(NamedTuple):
    """The end of an import in the topic `imports`."""

    partition: int
    offset: int
    """The offset after the import's last row."""
