"""What a job must be, whatever its events did on their way: the pure model of the fold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from msgspec import to_builtins
from msgspec.structs import asdict

from shared.contract.events import ImportAccepted, ImportRejected, RowResult, RowsSettled
from shared.postgres.row import Row

Import = ImportAccepted | ImportRejected
JobEvent = Import | RowsSettled


@dataclass(slots=True)
class Job:
    """The first import that is folded is the job's; of each row the first result.

    Which of those folded at once is first is free.
    """

    id: UUID
    known: Import | None = None
    settled: dict[int, RowResult] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)
    results: dict[int, list[RowResult]] = field(default_factory=dict)
    """Those of the folds under way, one of which may become what counts."""
    processed: int = 0
    completed_at: Any = None

    def offer(self, event: JobEvent) -> None:
        if not isinstance(event, RowsSettled):
            self.imports.append(event)
            return
        for result in event.results:
            self.results.setdefault(result.row_number, []).append(result)

    def resolve(self, kept: Sequence[Row]) -> None:
        """Take what the table kept: of each row one of its candidates, and what it had before."""
        found = {row["row_number"]: row["idempotency_key"] for row in kept}
        for number, results in self.results.items():
            if number not in self.settled:
                self.settled[number] = next(
                    one for one in results if one.idempotency_key == found[number]
                )
        assert found == {number: result.idempotency_key for number, result in self.settled.items()}
        self.results.clear()

    def check(self, row: Row) -> None:
        """`row` is the job as its owner gets it."""
        if self.known is None:
            self.known = next(one for one in self.imports if _is_of(row, one))
        self.imports.clear()
        counts: Counter[str] = Counter(result.status for result in self.settled.values())
        processed = len(self.settled)
        assert _is_of(row, self.known)
        assert (row["created_rows"], row["existing_rows"], row["failed_rows"]) == (
            counts["created"],
            counts["existing"],
            counts["failed"],
        )
        assert row["status"] == _status(_total(self.known), processed, counts["failed"])
        assert orjson.loads(row["results"]) == [
            _as_sent(self.settled[number]) for number in sorted(self.settled)
        ]
        assert (row["started_at"] is not None) == (processed > 0)
        assert (row["completed_at"] is not None) == (processed == _total(self.known))
        assert processed >= self.processed
        assert self.completed_at in {None, row["completed_at"]}
        self.processed, self.completed_at = processed, row["completed_at"]


def _is_of(row: Row, event: Import) -> bool:
    told = (
        row["workspace_id"],
        row["accepted_at"],
        row["total_rows"],
        row["source_filename"],
        row["request_id"],
        row["error_message"],
    )
    message = event.error_message if isinstance(event, ImportRejected) else None
    return told == (
        event.workspace_id,
        event.accepted_at,
        _total(event),
        event.source_filename,
        event.request_id,
        message,
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
