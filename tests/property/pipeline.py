"""Ingest, publisher and status without Kafka, on the real Postgres."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue
from services.ingest.config import IngestSettings
from services.ingest.model import AcceptedImport
from services.ingest.parsing.policy import ImportParameters
from services.ingest.reader import ImportReader
from services.ingest.records import ImportBatch
from services.ingest.service import ImportService
from services.ingest.submissions import submit_csv, submit_json
from services.publisher.rows.consumer import RowsHandler
from services.publisher.rows.service import RowService
from services.status.consumers import FoldHandler
from services.status.fold_service import FoldService
from services.status.model import Missing
from services.status.repository import JobRepository
from shared.access.cache import BoardCache
from shared.contract.import_records import is_for_publisher, is_for_status
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance
from shared.kafka.records import Record
from shared.postgres.database import Database
from shared.postgres.row import Row
from shared.runtime.periodic import PeriodicTask
from tests.property.publisher.service import Publisher
from tests.property.records import NAMES, build_consumer_records
from tests.support.fakes import MemorySender

BOARDS = {"board": "Board"}


class Workspace(NamedTuple):
    id: UUID
    account_id: UUID


class Pipeline:
    """Reads each topic once, in the order of its records. Fails on a dead letter."""

    def __init__(self, pool: Database) -> None:
        self._outcomes = MemorySender()
        self.publisher = Publisher(pool)
        self._rows = RowsHandler(
            RowService(self.publisher.store, BoardCache(self.publisher.access)),
            self._outcomes,
            NAMES,
        )
        settings = IngestSettings()
        self._imports = ImportService(
            self,
            AdmissionControl(settings),
            ImportQueue.from_settings(settings),
            ImportReader(self.publisher.access),
            keep_uploads=True,
        )
        self._jobs = JobRepository(pool)
        announcer = PeriodicTask("announcer", _nothing, interval_seconds=1)
        self._status = FoldHandler(FoldService(self._jobs, announcer), NAMES)

    async def create_workspace(
        self, account: str = "Test", boards: Mapping[str, str] = BOARDS
    ) -> Workspace:
        """Creates a workspace with one account. `boards` are the names of its boards by id."""
        operator = self.publisher.operator
        workspace_id = await operator.create_workspace("Test")
        account_id = await operator.add_account(workspace_id, name=account)
        for board_id, name in boards.items():
            await operator.add_board(workspace_id, account_id, board_id, name=name)
        return Workspace(workspace_id, account_id)

    async def import_json(self, workspace_id: UUID, document: bytes) -> Row:
        """Returns the ended job. Raises ApiError if the import was refused."""
        self._outcomes.topics.clear()
        accepted = await self._imports.accept(submit_json(workspace_id, document))
        return await self._find_job(accepted)

    async def import_csv(
        self, workspace_id: UUID, data: bytes, parameters: ImportParameters
    ) -> Row:
        """Returns the ended job. Raises ApiError if the import was refused."""
        self._outcomes.topics.clear()
        accepted = await self._imports.accept(
            submit_csv(workspace_id, data, "pins.csv", parameters)
        )
        return await self._find_job(accepted)

    async def _find_job(self, accepted: AcceptedImport) -> Row:
        event = accepted.event
        job = await self._jobs.find_job(event.workspace_id, event.job_id)
        assert not isinstance(job, Missing)
        return job

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        """Lets publisher and status process the whole import before the 202 is sent."""
        rows = [record for record in batch.records if is_for_publisher(record.value)]
        await self._consume(self._rows, TopicName.IMPORTS, rows)
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
