"""Ingest, publisher and status without Kafka: every row of an accepted import settles."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from deploy.administration import OperatorRepository
from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue
from services.ingest.config import IngestSettings
from services.ingest.reader import ImportReader
from services.ingest.records import ImportBatch
from services.ingest.service import ImportService
from services.ingest.submissions import submit_json
from services.publisher.rows.consumer import RowsHandler
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from services.status.consumers import FoldHandler
from services.status.fold_service import FoldService
from services.status.model import Missing
from services.status.repository import JobRepository
from shared.access.cache import BoardCache
from shared.access.repository import AccessRepository
from shared.contract.errors import ApiError
from shared.contract.import_records import is_for_publisher, is_for_status
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance
from shared.kafka.records import Record
from shared.postgres.database import Database
from shared.postgres.row import Row
from shared.runtime.periodic import PeriodicTask
from tests.property.conftest import Run
from tests.property.documents import arbitrary_rows, mutated, valid_rows
from tests.property.profiles import examples
from tests.property.records import NAMES, build_consumer_records
from tests.support.fakes import MemorySender


class Pipeline:
    """Reads each topic once, in the order of its records. Fails on a dead letter."""

    def __init__(self, pool: Database) -> None:
        self._pool = pool
        self._outcomes = MemorySender()
        self._publisher = RowsHandler(
            RowService(RowRepository(pool), BoardCache(AccessRepository(pool))),
            self._outcomes,
            NAMES,
        )
        self._jobs = JobRepository(pool)
        announcer = PeriodicTask("announcer", _nothing, interval_seconds=1)
        self._status = FoldHandler(FoldService(self._jobs, announcer), NAMES)

    async def create_workspace(self) -> tuple[UUID, UUID]:
        """Creates a workspace and an account, and returns their ids."""
        operator = OperatorRepository(self._pool)
        workspace_id = await operator.create_workspace("Test")
        account_id = await operator.add_account(workspace_id, name="Test")
        await operator.add_board(workspace_id, account_id, "board", name="Board")
        return workspace_id, account_id

    async def run(self, workspace_id: UUID, document: bytes) -> Row | None:
        """Returns the ended job, or None if the import was rejected."""
        self._outcomes.topics.clear()
        try:
            settings = IngestSettings()
            imports = ImportService(
                self,
                AdmissionControl(settings),
                ImportQueue.from_settings(settings),
                ImportReader(AccessRepository(self._pool)),
                keep_uploads=True,
            )
            accepted = await imports.accept(submit_json(workspace_id, document))
        except ApiError:
            return None
        job = await self._jobs.find_job(workspace_id, accepted.event.job_id)
        assert not isinstance(job, Missing)
        return job

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        """Lets publisher and status process the whole import before the 202 is sent."""
        rows = [record for record in batch.records if is_for_publisher(record.value)]
        await self._consume(self._publisher, TopicName.IMPORTS, rows)
        outcomes = [
            record
            for partition in self._outcomes.topics.get(NAMES[TopicName.OUTCOMES], [])
            for record in partition
        ]
        await self._consume(
            self._status,
            TopicName.IMPORTS,
            [record for record in batch.records if is_for_status(record.value)],
        )
        await self._consume(self._status, TopicName.OUTCOMES, outcomes)

    async def _consume(self, handler: Any, topic: TopicName, records: Sequence[Record]) -> None:
        decoded, poison = handler.decode(build_consumer_records(topic, records))
        assert not [*poison, *await handler.process(decoded, poison, Advance())]


async def _nothing() -> int:
    return 0


imports = st.lists(valid_rows() | arbitrary_rows, min_size=1, max_size=5)


@examples(25)
@given(imports, st.booleans(), st.lists(st.booleans(), min_size=5, max_size=5))
def test_invariants_2_and_5_every_row_of_an_accepted_import_settles(
    pool: Database,
    run: Run,
    rows: list[dict[str, Any]],
    ascii_only: bool,
    has_board: list[bool],
) -> None:
    pipeline = Pipeline(pool)
    workspace_id, account_id = run(pipeline.create_workspace())
    for row, is_known in zip(rows, has_board, strict=False):
        if is_known:
            row |= {"account_id": str(account_id), "board_id": "board"}
    document = json.dumps(rows, ensure_ascii=ascii_only).encode(errors="replace")
    job = run(pipeline.run(workspace_id, document))
    assert job is not None
    check_job(job, total=len(rows))


@examples(25)
@given(mutated(imports.map(lambda rows: json.dumps(rows).encode())))
def test_invariants_2_and_5_a_damaged_import_is_rejected_or_settles(
    pool: Database, run: Run, document: bytes
) -> None:
    pipeline = Pipeline(pool)
    workspace_id, _ = run(pipeline.create_workspace())
    job = run(pipeline.run(workspace_id, document))
    if job is not None:
        check_job(job, total=job["total_rows"])


def check_job(job: Row, *, total: int) -> None:
    results = orjson.loads(job["results"])
    assert [result["row_number"] for result in results] == list(range(1, total + 1))
    assert (
        job["total_rows"]
        == job["created_rows"] + job["existing_rows"] + job["failed_rows"]
        == total
    )
    assert job["completed_at"] is not None
    for result in results:
        assert (result["status"] == "failed") is (result["error_message"] is not None)
        assert (result["pin_id"] or result["schedule_id"]) or result["status"] == "failed"
