"""Decides the results of rows that Kafka lost before they settled. Does no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from deploy.cli.row_id import RowId
from shared.contract.errors import ErrorCode
from shared.contract.events import (
    ExistingState,
    Fault,
    FieldDifference,
    RowResult,
    RowStatus,
)
from shared.contract.schedule_ids import derive_schedule_id
from shared.kafka.records import Record
from shared.kafka.settled_records import split_into_records

LOST_MESSAGE = "Kafka lost this row before it was published. Send it again in a new import."
MAX_RESULTS_PER_RECORD = 200
"""Maximum results per record, as in services/publisher/rows/records.py. With LOST_MESSAGE in each
result, a record has about 50 KB. The longest results are split into several records: 200 existing
rows with 13 differing fields would be 2.7 MB.
"""


class UnfinishedJob(NamedTuple):
    """A job that has rows without a result."""

    job_id: UUID
    workspace_id: UUID
    accepted_at: datetime
    total_rows: int
    settled: str
    """A text of bits. Bit n is 1 if row n has a result. Bit 0 is not used."""

    def rows(self) -> list[RowId]:
        """Returns the rows without a result."""
        numbers = range(1, self.total_rows + 1)
        return [RowId(self.job_id, number) for number in numbers if self.settled[number] == "0"]


class CreatedPin(NamedTuple):
    """A pin that the publisher created. `run_at` is None unless it was scheduled."""

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
    existing_state: ExistingState | None = None
    differing_fields: list[FieldDifference] | None = None


LOST = RecordedOutcome(RowStatus.FAILED, error_code=ErrorCode.ROW_LOST, error_message=LOST_MESSAGE)


@dataclass(frozen=True, slots=True)
class JobResults:
    """The decided results of one job's unsettled rows, and the rows among them that are lost.

    The lost rows must be recorded in Postgres before the results are sent.
    """

    job: UnfinishedJob
    results: Sequence[RowResult]
    lost: Sequence[RowId]

    def counts(self) -> Counter[str]:
        """Counts the results by status. Lost rows count as failed."""
        return Counter(str(result.status) for result in self.results)


def decide_results(
    job: UnfinishedJob, recorded: Mapping[RowId, RecordedOutcome], pins: Mapping[RowId, CreatedPin]
) -> JobResults:
    """Decides the results of a job's unsettled rows.

    A recorded outcome is used first, as in the publisher. Else a row with a pin was created. Any
    other row is lost: the publisher has read all records in Kafka without finding it.
    """
    results, lost = [], []
    for row in job.rows():
        if row in recorded:
            results.append(_build_result(row, recorded[row], pins.get(row)))
        elif row in pins:
            results.append(_build_created(row, pins[row]))
        else:
            results.append(_build_result(row, LOST, None))
            lost.append(row)
    return JobResults(job, results, lost)


def build_result_records(jobs: Iterable[JobResults]) -> list[Record]:
    """Builds the records for the topic `outcomes`: RowsSettled, with the job id as key."""
    return [
        record
        for job in jobs
        for start in range(0, len(job.results), MAX_RESULTS_PER_RECORD)
        for record in split_into_records(
            job.job.job_id,
            job.job.workspace_id,
            job.results[start : start + MAX_RESULTS_PER_RECORD],
        )
    ]


def _build_created(row: RowId, pin: CreatedPin) -> RowResult:
    is_scheduled = pin.run_at is not None
    return RowResult(
        row_number=row.row_number,
        status=RowStatus.CREATED,
        pin_id=None if is_scheduled else pin.pin_id,
        schedule_id=derive_schedule_id(pin.pin_id) if is_scheduled else None,
        idempotency_key=pin.idempotency_key,
    )


def _build_result(row: RowId, recorded: RecordedOutcome, pin: CreatedPin | None) -> RowResult:
    code, message = recorded.error_code, recorded.error_message
    return RowResult(
        row_number=row.row_number,
        **recorded._asdict(),
        idempotency_key=pin.idempotency_key if pin else None,
        errors=[Fault(code=code, message=message)] if code and message else None,
    )
