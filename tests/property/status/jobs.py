"""A pure model of the fold: the expected state of a job for any delivery of its events."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from msgspec import to_builtins
from msgspec.structs import asdict

from services.status.notices import build_notices
from shared.contract.events import (
    EXISTING_NOT_PUBLISHED,
    ImportAccepted,
    ImportRejected,
    RowResult,
    RowsSettled,
)
from shared.postgres.row import Row

Import = ImportAccepted | ImportRejected
JobEvent = Import | RowsSettled


@dataclass(slots=True)
class Job:
    """The expected state of a job.

    The first folded import event and the first folded result of each row count. Of concurrent
    folds, any can be the first.
    """

    id: UUID
    import_event: Import | None = None
    settled: dict[int, RowResult] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)
    results: dict[int, list[RowResult]] = field(default_factory=dict)
    """Results in the current folds, by row. One result of each row may be stored."""
    processed: int = 0
    completed_at: Any = None

    def offer(self, event: JobEvent) -> None:
        if not isinstance(event, RowsSettled):
            self.imports.append(event)
            return
        for result in event.results:
            self.results.setdefault(result.row_number, []).append(result)

    def resolve(self, stored: Sequence[Row]) -> None:
        """Settles rows by the stored results: each must be the earlier result or a candidate."""
        stored_keys = {row["row_number"]: row["idempotency_key"] for row in stored}
        for number, results in self.results.items():
            if number not in self.settled:
                self.settled[number] = next(
                    result for result in results if result.idempotency_key == stored_keys[number]
                )
        assert stored_keys == {
            number: result.idempotency_key for number, result in self.settled.items()
        }
        self.results.clear()

    def check(self, row: Row) -> None:
        """Checks `row`, the job as its workspace reads it."""
        if self.import_event is None:
            self.import_event = next(event for event in self.imports if _matches(row, event))
        self.imports.clear()
        counts: Counter[str] = Counter(result.status for result in self.settled.values())
        processed = len(self.settled)
        assert _matches(row, self.import_event)
        assert (row["created_rows"], row["existing_rows"], row["failed_rows"]) == (
            counts["created"],
            counts["existing"],
            counts["failed"],
        )
        assert row["status"] == _status(_total(self.import_event), processed, counts["failed"])
        assert orjson.loads(row["results"]) == [
            _as_sent(self.settled[number]) for number in sorted(self.settled)
        ]
        codes = [result.error_code for result in self.settled.values() if result.status == "failed"]
        assert row["error_counts"] == Counter(codes)
        assert _find_noticed_rows(row) == [
            number
            for number, result in sorted(self.settled.items())
            if result.existing_state in {"canceled", "deleted", "failed"}
        ]
        assert (row["started_at"] is not None) == (processed > 0)
        assert (row["completed_at"] is not None) == (processed == _total(self.import_event))
        assert processed >= self.processed
        assert self.completed_at in {None, row["completed_at"]}
        self.processed, self.completed_at = processed, row["completed_at"]


def _find_noticed_rows(row: Row) -> list[int]:
    """Returns the rows that the warning about existing rows names, in order."""
    return [
        number
        for notice in build_notices(row)
        if notice["code"] == EXISTING_NOT_PUBLISHED
        for number in notice["row_numbers"]
    ]


def _matches(row: Row, event: Import) -> bool:
    values = (
        row["workspace_id"],
        row["accepted_at"],
        row["total_rows"],
        row["source_filename"],
        row["request_id"],
        row["error_message"],
        row["publishing_now"],
        row["scheduled_for_later"],
        row["parent_id"],
    )
    message = event.error_message if isinstance(event, ImportRejected) else None
    counts = (
        (event.publishing_now, event.scheduled_for_later, event.parent_id)
        if isinstance(event, ImportAccepted)
        else (None, None, None)
    )
    return values == (
        event.workspace_id,
        event.accepted_at,
        _total(event),
        event.source_filename,
        event.request_id,
        message,
        *counts,
    )


def _total(event: Import) -> int:
    return event.total_rows if isinstance(event, ImportAccepted) else 0


def _status(total: int, processed: int, failed: int) -> str:
    if processed < total:
        return "processing" if processed else "queued"
    if failed == total:
        return "failed"
    return "completed_with_errors" if failed else "completed"


def _as_sent(result: RowResult) -> dict[str, Any]:
    return {
        **to_builtins(asdict(result)),
        "errors": [asdict(fault) for fault in result.errors or []],
    }
