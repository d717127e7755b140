"""From events to columns: one batch of imports and outcomes, as the fold's statement takes it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from shared.events import Fault, ImportAccepted, ImportRejected, RowResult, RowsSettled, RowStatus

Foldable = ImportAccepted | ImportRejected | RowsSettled

STATUS_NUMBERS = {RowStatus.CREATED: 1, RowStatus.EXISTING: 2, RowStatus.FAILED: 3}
"""As the table stores them: two bytes a row."""

_FAULT = tuple(Fault.model_fields)


@dataclass(slots=True)
class Fold:
    """Distinct jobs, with what their import says if it is in the batch, and the row results."""

    jobs: dict[UUID, tuple[Any, ...]] = field(default_factory=dict)
    results: list[tuple[Any, ...]] = field(default_factory=list)


def fold(events: Iterable[Foldable]) -> Fold:
    """Order and repetition don't matter: the first result of a row that the table takes is the one that counts.

    Of two imports of one job, too: ingest may have judged a request again that it had committed before it crashed, by newer rules.
    """
    batch = Fold()
    imported: set[UUID] = set()
    for event in events:
        if isinstance(event, ImportAccepted | ImportRejected):
            if event.job_id not in imported:
                imported.add(event.job_id)
                batch.jobs[event.job_id] = _known_by_import(event)
        else:
            batch.jobs.setdefault(event.job_id, _known_by_outcomes(event))
            batch.results += [_result(event.job_id, result) for result in event.results]
    return batch


def weight(event: Foldable) -> int:
    """How many rows of a table it becomes."""
    return 1 if isinstance(event, ImportAccepted | ImportRejected) else len(event.results)


def _known_by_outcomes(event: RowsSettled) -> tuple[Any, ...]:
    return (event.job_id, event.workspace_id, *(None,) * 8)


def _known_by_import(event: ImportAccepted | ImportRejected) -> tuple[Any, ...]:
    particulars: tuple[str | None, str | None, str | None]
    if isinstance(event, ImportAccepted):
        warnings = _json([notice.model_dump() for notice in event.warnings]) if event.warnings else None
        total, particulars = event.total_rows, (warnings, None, None)
    else:
        total, particulars = 0, (None, event.error_code, event.error_message)
    source = (event.source_type.value, event.source_filename, event.request_id)
    return (event.job_id, event.workspace_id, event.accepted_at, total, *source, *particulars)


def _result(job_id: UUID, result: RowResult) -> tuple[Any, ...]:
    return (
        job_id,
        result.row_number,
        STATUS_NUMBERS[result.status],
        result.payload_matches,
        result.pin_id,
        result.schedule_id,
        result.idempotency_key,
        result.error_code,
        result.error_message,
        None if result.errors is None else _json([{name: getattr(fault, name) for name in _FAULT} for fault in result.errors]),
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
