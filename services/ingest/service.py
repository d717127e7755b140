"""An import from its parsed rows on: what goes into its one transaction, the same for HTTP and for the topic."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

import orjson

from services.ingest.parsing import ParsedRows
from shared.events import ImportAccepted, ImportRejected, Notice, RowResult, SourceType
from shared.messaging.dead_letters import Header
from shared.messaging.records import Record
from shared.topics import TopicName

MAX_OUTCOME_BYTES = 700_000
"""Results of failed rows in one record; below the topic's 1 MiB with all that comes around them."""


@dataclass(frozen=True, slots=True)
class Import:
    """Settled once and never again: retries reuse job id, time and rows."""

    job_id: UUID
    workspace_id: UUID
    accepted_at: datetime
    source_type: SourceType
    source_filename: str | None
    rows: ParsedRows
    warnings: Sequence[Notice] = field(default_factory=tuple)
    request_id: str | None = None
    history: Sequence[Header] = field(default_factory=tuple)
    """How often what asked for it was replayed: goes out with every record."""


Records: TypeAlias = Mapping[TopicName, Sequence[Record]]
"""What goes into one transaction. All of it has one key."""


def records_of(accepted: Import) -> Records:
    """The import, its rows, and the outcomes of those that failed validation."""
    event = ImportAccepted(
        job_id=accepted.job_id,
        workspace_id=accepted.workspace_id,
        source_type=accepted.source_type,
        source_filename=accepted.source_filename,
        total_rows=accepted.rows.total,
        accepted_at=accepted.accepted_at,
        request_id=accepted.request_id,
        warnings=list(accepted.warnings),
    )
    key, headers = str(accepted.job_id).encode(), list(accepted.history)
    return {
        TopicName.IMPORTS: [Record(key, event.model_dump_json().encode(), headers)],
        TopicName.ROWS: [Record(key, value, headers) for value in _row_events(accepted)],
        TopicName.OUTCOMES: [Record(key, value, headers) for value in _outcome_events(accepted)],
    }


def records_of_rejection(rejected: ImportRejected) -> Records:
    return {TopicName.IMPORTS: [Record(str(rejected.job_id).encode(), rejected.model_dump_json().encode())]}


def _row_events(accepted: Import) -> Iterator[bytes]:
    """RowAccepted, spliced: the envelope once, each row as it was written when it was validated. A model would cost as much again."""
    before = b'{"version":1,"job_id":"%b","workspace_id":"%b","accepted_at":"%b","row_number":' % (
        str(accepted.job_id).encode(),
        str(accepted.workspace_id).encode(),
        accepted.accepted_at.astimezone(UTC).isoformat().encode(),
    )
    for row in accepted.rows.valid:
        yield b'%b%d,"fingerprint":"%b","row":%b}' % (before, row.row_number, row.fingerprint, row.content)


def _outcome_events(accepted: Import) -> Iterator[bytes]:
    about = {"version": 1, "job_id": accepted.job_id, "workspace_id": accepted.workspace_id}
    for results in _in_portions(accepted.rows.failed):
        yield orjson.dumps({**about, "results": [orjson.Fragment(result) for result in results]})


def _in_portions(results: Iterable[RowResult]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for result in results:
        value = result.model_dump_json(exclude_none=True).encode()
        if portion and size + len(value) > MAX_OUTCOME_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(value)
        size += len(value)
    if portion:
        yield portion
