"""Folds on the real Postgres, compared with a model.

Imports, outcomes and uploads are folded in any order and in any batches, repeatedly, and in two
batches at the same time.
"""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from services.status.consumers import ZSTD_MAGIC, FoldHandler
from services.status.fold_service import FoldService
from services.status.folding import CompressedUpload
from services.status.model import Missing
from services.status.repository import JobRepository
from shared.contract.events import (
    ExistingState,
    Fault,
    FileUploaded,
    ImportAccepted,
    ImportRejected,
    RowResult,
    RowsSettled,
    RowStatus,
    UploadFormat,
)
from shared.contract.topics import TopicName
from shared.contract.wire import encode
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from shared.postgres.row import Row
from shared.runtime.periodic import PeriodicTask
from tests.property.conftest import Run
from tests.property.ids import Ids
from tests.property.profiles import examples
from tests.property.records import NAMES, build_consumer_record
from tests.property.status.jobs import Import, Job, JobEvent
from tests.support.factories import NOON, import_accepted
from tests.support.listing import list_imports

RESULTS = text("""
    select job_id, (r->>'row_number')::int as row_number, r->>'idempotency_key' as idempotency_key
    from status.results, json_array_elements(results::json) r where job_id = any(:ids)
""")
UPLOADS = text("select job_id, workspace_id, content from status.uploads where job_id = any(:ids)")

Produced = JobEvent | CompressedUpload | bytes

Outcome: TypeAlias = RowStatus | ExistingState
"""The status of a settled row. A state stands for an existing row whose pin is in that state."""

_outcomes: st.SearchStrategy[Outcome] = st.sampled_from([*RowStatus, *ExistingState])
_results = st.lists(st.tuples(st.integers(1, 4), _outcomes), min_size=1, max_size=5)
"""Results by row number. Rows that the job does not have are left out."""


class Oddity(Enum):
    REJECTED = auto()
    REJECTED_LATER = auto()
    """Ingest committed and crashed. A newer version with stricter rules read the request again."""
    GARBAGE = auto()
    UPLOAD = auto()
    STRAY_UPLOAD = auto()
    """An upload that names a workspace other than the job's."""
    TOO_MANY_ROWS = auto()


class Status:
    """The status service without Kafka."""

    def __init__(self, pool: Database) -> None:
        self.store = JobRepository(pool)
        self._pool = pool
        announcer = PeriodicTask("announcer", _nothing, interval_seconds=1)
        self._handler = FoldHandler(FoldService(self.store, announcer), NAMES)

    async def fold(self, *batches: Sequence[Produced]) -> list[bytes | None]:
        """Folds all batches at the same time, each as if by its own consumer.

        Returns the values of the dead letters.
        """
        letters = await asyncio.gather(*(self._fold(batch) for batch in batches))
        return [letter for batch_letters in letters for letter in batch_letters]

    async def _fold(self, batch: Sequence[Produced]) -> list[bytes | None]:
        decoded, poison = self._handler.decode([_received(event) for event in batch])
        return [
            letter.record.value
            for letter in [*poison, *await self._handler.process(decoded, poison, Advance())]
        ]

    async def results(self, ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
        rows: dict[UUID, list[Row]] = {job_id: [] for job_id in ids}
        for row in await self._pool.fetch_all(RESULTS.bindparams(ids=list(ids))):
            rows[row["job_id"]].append(row)
        return rows

    async def uploads(self, ids: Sequence[UUID]) -> dict[tuple[UUID, UUID], bytes]:
        """Returns the contents by job and workspace."""
        rows = await self._pool.fetch_all(UPLOADS.bindparams(ids=list(ids)))
        return {(row["job_id"], row["workspace_id"]): row["content"] for row in rows}

    async def list_imports(self, workspace_id: UUID) -> list[UUID]:
        page = await list_imports(self._pool, workspace_id)
        assert page.total == len(page.rows)
        return [row["job_id"] for row in page.rows]

    async def announced(self, ids: set[UUID]) -> list[UUID]:
        """Announces all completed jobs. Returns those that are in `ids`."""
        announced: list[UUID] = []

        while True:
            async with self.store.lock_unannounced(200) as jobs:
                announced.extend(job["job_id"] for job in jobs if job["job_id"] in ids)
            if not jobs:
                return announced


async def _nothing() -> int:
    return 0


def _received(event: Produced) -> Any:
    if isinstance(event, CompressedUpload):
        return build_consumer_record(
            TopicName.IMPORTS, encode(event.header) + b"\n" + event.content
        )
    topic = TopicName.OUTCOMES if isinstance(event, RowsSettled | bytes) else TopicName.IMPORTS
    return build_consumer_record(topic, event if isinstance(event, bytes) else encode(event))


class Folding(RuleBasedStateMachine):
    """Produces events into a log, and folds any of them, in any order, repeatedly."""

    jobs: Bundle[ImportAccepted] = Bundle("jobs")

    def __init__(self, status: Status, run: Run) -> None:
        super().__init__()
        self._status = status
        self._run = run
        self._ids = Ids()
        self._workspaces = [self._ids.new(), self._ids.new()]
        self._log: list[Produced] = []
        self._model: dict[UUID, Job] = {}
        self._later: dict[int, Import] = {}
        self._announced: set[UUID] = set()
        self._uploads: dict[tuple[UUID, UUID], bytes] = {}

    def _produce(self, event: JobEvent) -> None:
        self._log.append(event)
        self._model.setdefault(event.job_id, Job(event.job_id))

    @initialize(target=jobs, results=st.lists(_results, min_size=2, max_size=4))
    def accept_some(self, results: list[list[tuple[int, Outcome]]]) -> Any:
        """Produces outcomes and then their imports, so that the first step can fold something."""
        created = [
            import_accepted(
                job_id=self._ids.new(),
                workspace_id=self._workspaces[number % 2],
                total_rows=1 + number,
            )
            for number in range(len(results))
        ]
        for job, rows in zip(created, results, strict=True):
            self.settle(job, rows, stray=False)
        for job in created:
            self._produce(job)
        return multiple(*created)

    @rule(
        target=jobs, workspace=st.integers(0, 1), total=st.integers(1, 4), count=st.integers(1, 2)
    )
    def accept(self, workspace: int, total: int, count: int) -> Any:
        created = [
            import_accepted(
                job_id=self._ids.new(),
                workspace_id=self._workspaces[workspace],
                total_rows=total,
                source_filename="a.csv",
                publishing_now=total - 1,
                parent_id=self._ids.new() if total > 2 else None,
                scheduled_for_later=1,
            )
            for _ in range(count)
        ]
        for job in created:
            self._produce(job)
        return multiple(*created)

    @rule(job=jobs, rows=_results, stray=st.booleans())
    def settle(self, job: ImportAccepted, rows: list[tuple[int, Outcome]], *, stray: bool) -> None:
        """Produces results, which may be contradictory. A stray record names another workspace."""
        workspace_id = job.workspace_id
        if stray:
            (workspace_id,) = set(self._workspaces) - {workspace_id}
        results = [
            self._result(number, status) for number, status in rows if number <= job.total_rows
        ]
        self._produce(RowsSettled(job_id=job.job_id, workspace_id=workspace_id, results=results))

    @rule(job=jobs, oddity=st.sampled_from(Oddity))
    def produce_oddity(self, job: ImportAccepted, oddity: Oddity) -> None:
        # One rule, not six: hypothesis runs all rules equally often, and folds matter most
        fields: dict[str, Any] = {
            "workspace_id": job.workspace_id,
            "accepted_at": NOON,
            "error_code": "too_many_rows",
            "request_id": "r",
        }
        match oddity:
            case Oddity.REJECTED:
                self._produce(
                    ImportRejected(job_id=self._ids.new(), error_message="501 rows", **fields)
                )
            case Oddity.REJECTED_LATER:
                event = ImportRejected(job_id=job.job_id, error_message="stricter", **fields)
                self._later[id(event)] = job
                self._produce(event)
            case Oddity.GARBAGE:
                self._log.append(b"{}")
            case Oddity.UPLOAD:
                self._upload(job.job_id, job.workspace_id)
            case Oddity.STRAY_UPLOAD:
                self._upload(
                    job.job_id,
                    next(other for other in self._workspaces if other != job.workspace_id),
                )
            case Oddity.TOO_MANY_ROWS if (
                self._model[job.job_id].import_event is not None
            ):  # until then the model does not know which import event counts
                self._settle_in_vain(
                    job,
                    [
                        self._result(number, RowStatus.FAILED)
                        for number in range(5, 6 + job.total_rows)
                    ],
                )

    def _upload(self, job_id: UUID, workspace_id: UUID) -> None:
        """Produces an upload. Uploads of one job differ, so that the stored one is recognized."""
        header = FileUploaded(
            job_id=job_id, workspace_id=workspace_id, format=UploadFormat.JSON, size=1
        )
        self._log.append(CompressedUpload(header, ZSTD_MAGIC + self._ids.new().bytes))

    def _settle_in_vain(self, job: ImportAccepted, results: list[RowResult]) -> None:
        event = RowsSettled(job_id=job.job_id, workspace_id=job.workspace_id, results=results)
        self._log.append(encode(event))

    def _result(self, number: int, outcome: Outcome) -> RowResult:
        """Builds a result with a unique key, by which it is recognized."""
        state = outcome if isinstance(outcome, ExistingState) else None
        status = outcome if isinstance(outcome, RowStatus) else RowStatus.EXISTING
        fault = Fault(code="c", field=None, message="m") if status is RowStatus.FAILED else None
        return RowResult(
            row_number=number,
            status=status,
            pin_id=self._ids.new() if status is not RowStatus.FAILED else None,
            idempotency_key=str(self._ids.new()),
            payload_matches=True if status is RowStatus.EXISTING else None,
            error_code="c" if fault else None,
            error_message="m" if fault else None,
            errors=[fault] if fault else None,
            line=number + 1,
            existing_state=state,
        )

    def _batch(self, data: st.DataObject) -> list[Produced]:
        chosen = (
            data.draw(st.lists(st.integers(0, len(self._log) - 1), max_size=12))
            if self._log
            else []
        )
        batch: list[Produced] = []
        for position in chosen:
            event = self._log[position]
            # A partition keeps the order, so the later import event of a job never comes first
            if (
                id(event) in self._later
                and self._model[self._later[id(event)].job_id].import_event is None
            ):
                batch.append(self._later[id(event)])
            batch.append(event)
        return batch

    @rule(data=st.data(), at_once=st.integers(1, 2))
    def fold(self, data: st.DataObject, at_once: int) -> None:
        self._fold(*(self._batch(data) for _ in range(at_once)))

    @rule()
    def fold_everything(self) -> None:
        self._fold(self._log)

    def _fold(self, *batches: list[Produced]) -> None:
        """Folds all batches at the same time, and compares the jobs and uploads with the model."""
        letters = self._run(self._status.fold(*batches))
        events = [event for batch in batches for event in batch]
        assert sorted(letters) == sorted(event for event in events if isinstance(event, bytes))
        for event in events:
            if not isinstance(event, bytes | CompressedUpload):
                self._model[event.job_id].offer(event)
        self._check()
        self._check_uploads([event for event in events if isinstance(event, CompressedUpload)])

    def _check_uploads(self, offered: list[CompressedUpload]) -> None:
        """Checks that the first folded upload of a job and workspace is stored for good."""
        stored = self._run(self._status.uploads(list(self._model)))
        keys = {(upload.job_id, upload.header.workspace_id) for upload in offered}
        assert set(stored) == set(self._uploads) | keys
        for key in keys - set(self._uploads):
            assert stored[key] in {
                upload.content
                for upload in offered
                if (upload.job_id, upload.header.workspace_id) == key
            }
        assert stored == stored | self._uploads
        self._uploads = stored

    def _check(self) -> None:
        stored = self._run(self._status.results(list(self._model)))
        for job in self._model.values():
            job.resolve(stored[job.id])
            imported = job.import_event or next(iter(job.imports), None)
            for workspace_id in self._workspaces:
                row = self._run(self._status.store.find_job(workspace_id, job.id))
                if imported is not None and imported.workspace_id == workspace_id:
                    assert not isinstance(row, Missing)
                    job.check(row)
                else:
                    assert row is (Missing.UNKNOWN if imported is None else Missing.FOREIGN)
        for workspace_id in self._workspaces:
            own = {
                job.id
                for job in self._model.values()
                if job.import_event is not None and job.import_event.workspace_id == workspace_id
            }
            assert set(self._run(self._status.list_imports(workspace_id))) == own

    @rule()
    def announce(self) -> None:
        ended = {job.id for job in self._model.values() if job.completed_at is not None}
        assert sorted(self._run(self._status.announced(set(self._model)))) == sorted(
            ended - self._announced
        )
        self._announced = ended


@pytest.mark.timeout(900)  # hypothesis minimizes a failure first
def test_invariants_4_5_and_10_a_job_matches_its_events_in_any_order(
    pool: Database, run: Run
) -> None:
    status = Status(pool)

    class Here(Folding):
        def __init__(self) -> None:
            super().__init__(status, run)

    run_state_machine_as_test(Here, settings=examples(25))
