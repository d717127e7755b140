"""A workspace with a connected account: its imports, direct calls and stored pins."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from msgspec.structs import replace
from sqlalchemy import text

from services.publisher.ids import compute_pin_id
from services.publisher.pins.bulk_publish import BulkPublishService
from services.publisher.pins.dry_run.service import DryRunService
from services.publisher.pins.removals import RemovalReader
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.service import PinService
from services.publisher.rows.records import build_outcome_records, build_pin_event_records
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePinRepository
from shared.access.cache import BoardCache
from shared.access.model import Principal
from shared.contract.events import OnExisting, RowAccepted, RowResult, RowsSettled
from shared.kafka.positions.advance import Advance
from shared.kafka.records import Record
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.conftest import accept_every_database
from tests.support.connections import record_connection
from tests.support.events import parse_event
from tests.support.factories import row_accepted, submitted_row

KEY = "lamp"
IN_2090 = "2090-01-01T00:00:00Z"


class Settled(NamedTuple):
    results: list[RowResult]
    """The rows' results, in order."""
    events: list[Record]
    """The pin events of the batch."""

    @property
    def event_ids(self) -> list[str]:
        return [dict(record.headers)["ce_id"].decode() for record in self.events]


class Delivered:
    """Publishes to a workspace's connected account. Nothing delivers its pins."""

    def __init__(self, database: Database, workspace: Workspace) -> None:
        self._database = database
        self.workspace = workspace
        self.principal = Principal(workspace.id, uuid4(), frozenset())
        boards, repository = BoardCache(workspace.access), RowRepository(database)
        self._rows = RowService(repository, boards)
        pins = PinRepository(database, accept_every_database)
        removals = RemovalReader(database, is_on=False)
        self.pins = PinService(pins, boards, workspace.access, removals)
        self.schedules = ScheduleService(pins, boards, workspace.access)
        self.bulk = BulkPublishService(pins, boards, limit=10)
        self.dry_run = DryRunService(pins, workspace.access)

    async def connect(self) -> None:
        await record_connection(self._database, self.workspace.id, self.workspace.account_id)

    def row(self, *, on_existing: OnExisting = OnExisting.REPORT, **fields: Any) -> RowAccepted:
        """Builds a row that was accepted now."""
        known: dict[str, Any] = {
            "workspace_id": self.workspace.id,
            "account_id": str(self.workspace.account_id),
            "accepted_at": datetime.now(UTC),
            "idempotency_key": KEY,
        }
        return replace(row_accepted(**(known | fields)), on_existing=on_existing)

    def document(self, **fields: Any) -> dict[str, Any]:
        """Builds the body of a direct call."""
        known = {"account_id": str(self.workspace.account_id), "idempotency_key": KEY}
        return submitted_row(**(known | fields))

    async def settle(self, *rows: RowAccepted) -> Settled:
        settlement = await self._rows.settle(rows, advance=Advance())
        records = build_outcome_records(settlement.outcomes)
        by_row = {
            (event.job_id, result.row_number): result
            for event in (parse_event(RowsSettled, record.value) for record in records)
            for result in event.results
        }
        results = [by_row[row.job_id, row.row_number] for row in rows]
        return Settled(results, build_pin_event_records(settlement.outcomes))

    async def settle_one(self, **fields: Any) -> RowResult:
        (result,) = (await self.settle(self.row(**fields))).results
        return result

    async def publish_due(self) -> int:
        scheduler = Scheduler(DuePinRepository(self._database), self.workspace.access, 100)
        return await scheduler.publish_due()

    def pin_id(self, key: str = KEY) -> UUID:
        return compute_pin_id(self.workspace.id, key)

    async def pin(self, pin_id: UUID | None = None) -> dict[str, Any]:
        query = text("select * from publisher.pins where pin_id = :id")
        row = await self._database.fetch_first(query.bindparams(id=pin_id or self.pin_id()))
        assert row is not None
        return dict(row)

    async def state(self) -> str:
        return str((await self.pin())["state"])

    async def change(self, values: str, **parameters: Any) -> None:
        """Changes the pin of KEY as the delivery process or a person does."""
        statement = f"update publisher.pins set {values} where pin_id = :id"
        await self.execute(statement, id=self.pin_id(), **parameters)

    async def deliver(self, pinterest_pin_id: str | None = None) -> None:
        """Publishes the pin of KEY as the delivery process does."""
        await self.change(
            "state = 'published', published_at = now(), pinterest_pin_id = :on_pinterest",
            on_pinterest=pinterest_pin_id or str(uuid4().int),
        )

    async def fail(self, code: str) -> None:
        await self.change(
            "state = 'failed', failed_at = now(), error_code = :code, error_message = 'No.'",
            code=code,
        )

    async def attempt(self, outcome: str | None) -> None:
        """Adds an attempt to create the pin of KEY."""
        await self.execute(
            """
            insert into publisher.delivery_attempts (
                attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id,
                compared, texts, deadline_at, outcome, settled_at
            )
            select gen_random_uuid(), pin_id, 1, workspace_id, account_id, 'simulated', 1, board_id,
                fingerprint, '{}', now(), cast(:outcome as text),
                case when cast(:outcome as text) is not null then now() end
            from publisher.pins where pin_id = :id
            """,
            id=self.pin_id(),
            outcome=outcome,
        )

    async def execute(self, statement: str, **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(text(statement), values)

    async def outbox(self, pin_id: UUID | None = None) -> list[str]:
        """Reads the types of a pin's events in the outbox, in order."""
        query = text("select event_type from publisher.outbox where event_id like :id order by id")
        found = await self._database.fetch_all(query.bindparams(id=f"{pin_id or self.pin_id()}:%"))
        return [row["event_type"].split(".")[2] for row in found]

    async def live_pins(self) -> int:
        query = text(
            "select count(*) from publisher.pins where workspace_id = :id and deleted_at is null"
        ).bindparams(id=self.workspace.id)
        row = await self._database.fetch_first(query)
        assert row is not None
        return int(row["count"])


def find_ids(results: Sequence[RowResult]) -> list[tuple[str, UUID | None, UUID | None]]:
    """Returns each row's status, pin_id and schedule_id."""
    return [(result.status.value, result.pin_id, result.schedule_id) for result in results]
