"""Decides the results of rows that Kafka lost before they settled. Does no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from deploy.cli.row_id import RowId
from shared.contract.errors import ErrorCode
from shared.contract.events import Fault, RowResult, RowsSettled, RowStatus
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.wire import encode
from shared.kafka.records import Record

LOST_MESSAGE = "Kafka lost this row before it was published. Send it again in a new import."
MAX_RESULTS_PER_RECORD = 200
"""As many as the publisher's records have (services/publisher/rows/events.py): 50 KB."""


class UnfinishedJob(NamedTuple):
    """An unfinished job. `settled`: a text of bits; bit n is 1 if row n has a result."""

    job_id: UUID
    workspace_id: UUID
    accepted_at: datetime
    total_rows: int
    settled: str

    def rows(self) -> list[RowId]:
        """Returns the rows without a result."""
        numbers = range(1, self.total_rows + 1)
        return [RowId(self.job_id, number) for number in numbers if self.settled[number] == "0"]


class CreatedPin(NamedTuple):
    """A pin in the publisher's store. `run_at` is None unless it was scheduled."""

    pin_id: UUID
    idempotency_key: str
    run_at: datetime | None


class RecordedOutcome(NamedTuple):
    """An outcome that the publisher has recorded (publisher.row_outcomes)."""

    status: RowStatus
    pin_id: UUID | None = None
    schedule_id: UUID | None = None
    payload_matches: bool | None = None
    error_code: str | None = None
    error_message: str | None = None


LOST = RecordedOutcome(RowStatus.FAILED, error_code=ErrorCode.ROW_LOST, error_message=LOST_MESSAGE)


@dataclass(frozen=True, slots=True)
class JobResults:
    """The results of one job's missing rows, and the rows whose loss must be recorded first."""

    job: UnfinishedJob
    results: Sequence[RowResult]
    lost: Sequence[RowId]

    def counts(self) -> Counter[str]:
        """Counts results: created, existing and failed; rows that are lost count as failed."""
        return Counter(str(result.status) for result in self.results)


def decide(
    job: UnfinishedJob, recorded: Mapping[RowId, RecordedOutcome], pins: Mapping[RowId, CreatedPin]
) -> JobResults:
    """Decides each row without a result.

    A recorded outcome comes first, as in the publisher. A row with a pin was created. Any other row
    is lost: the publisher has read all of Kafka without it.
    """
    results, lost = [], []
    for row in job.rows():
        if row in recorded:
            results.append(_result(row, recorded[row], pins.get(row)))
        elif row in pins:
            results.append(_created(row, pins[row]))
        else:
            results.append(_result(row, LOST, None))
            lost.append(row)
    return JobResults(job, results, lost)


def build_result_records(decisions: Iterable[JobResults]) -> list[Record]:
    """Builds the records for the topic `outcomes`: RowsSettled, with the job id as key."""
    events = [event for decision in decisions for event in _events(decision)]
    return [Record(str(event.job_id).encode(), encode(event)) for event in events]


def _events(decision: JobResults) -> list[RowsSettled]:
    job, results = decision.job, decision.results
    return [
        RowsSettled(
            job_id=job.job_id,
            workspace_id=job.workspace_id,
            results=list(results[start : start + MAX_RESULTS_PER_RECORD]),
        )
        for start in range(0, len(results), MAX_RESULTS_PER_RECORD)
    ]


def _created(row: RowId, pin: CreatedPin) -> RowResult:
    is_scheduled = pin.run_at is not None
    return RowResult(
        row_number=row.row_number,
        status=RowStatus.CREATED,
        pin_id=None if is_scheduled else pin.pin_id,
        schedule_id=derive_schedule_id(pin.pin_id) if is_scheduled else None,
        idempotency_key=pin.idempotency_key,
    )


def _result(row: RowId, recorded: RecordedOutcome, pin: CreatedPin | None) -> RowResult:
    code, message = recorded.error_code, recorded.error_message
    return RowResult(
        row_number=row.row_number,
        **recorded._asdict(),
        idempotency_key=pin.idempotency_key if pin else None,
        errors=[Fault(code=code, message=message)] if code and message else None,
    )
