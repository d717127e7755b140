"""The types of an import that HTTP and the topic `import-requests` share. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.ingest.parsing.rows import ParsedRows
from shared.contract.events import (
    ImportAccepted,
    OnExisting,
    SourceType,
    UploadFormat,
    UploadParameters,
)
from shared.kafka.records import Header


class RawUpload(NamedTuple):
    """The original file or body that a client sent."""

    format: UploadFormat
    data: bytes
    parameters: UploadParameters = UploadParameters()


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
    on_existing: OnExisting = OnExisting.REPORT
    parent_id: UUID | None = None
    """The job whose failed rows this import sends again."""


class AcceptedImport(NamedTuple):
    """An import that Kafka has, as its 202 describes it."""

    event: ImportAccepted
    is_replay: bool = False
    """True if an earlier request with the same key made the import."""


class ImportEnd(NamedTuple):
    """The end of an import in the topic `imports`."""

    partition: int
    offset: int
    """The offset after the import's last row."""
