"""Imports whose rows are settled on the real Postgres, and the commands on them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy import text

from services.ingest.ids import new_job_id
from services.publisher.rows.records import build_outcome_records
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import Locate, RowService
from shared.access.cache import BoardCache
from shared.contract.events import RowAccepted, RowResult, RowsSettled
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client
from tests.support.events import parse_event
from tests.support.factories import row_accepted
from tests.support.waiting import eventually


class Import:
    """One import of a workspace."""

    def __init__(self, client: Client, database: Database, *rows: dict[str, Any]) -> None:
        """Accepts the import now. Each row has the fields of a pin; each has a default."""
        self._client = client
        self._database = database
        self.accepted_at = datetime.now(UTC)
        self.job_id = new_job_id(self.accepted_at)
        self.rows = [self._build_row(number, fields) for number, fields in enumerate(rows, 1)]

    def _build_row(self, number: int, fields: dict[str, Any]) -> RowAccepted:
        workspace = self._client.workspace
        on_existing = {name: fields[name] for name in ("on_existing",) if name in fields}
        content = {name: value for name, value in fields.items() if name not in on_existing}
        row = row_accepted(
            job_id=self.job_id,
            workspace_id=workspace.id,
            row_number=number,
            accepted_at=self.accepted_at,
            **{"account_id": str(workspace.account_id), **content},
        )
        return replace(row, **on_existing)

    async def settle(self) -> list[RowResult]:
        """Settles all rows in one batch. A second call is a redelivery."""
        return await settle(self._client, self._database, self.rows)

    @property
    def reference(self) -> dict[str, Any]:
        return {
            "workspace_id": str(self._client.workspace.id),
            "job_id": str(self.job_id),
            "accepted_at": self.accepted_at.isoformat(),
        }

    async def command(self, name: str, **fields: Any) -> dict[str, Any]:
        """Runs a command on the import. Returns its answer."""
        answer = await self._client.call_internally(f"imports/{name}", {**self.reference, **fields})
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def undo(self, **fields: Any) -> dict[str, Any]:
        return await self.command("undo", **{"dry_run": False, **fields})


async def settle(
    client: Client, database: Database, rows: Sequence[RowAccepted], locate: Locate = dict
) -> list[RowResult]:
    """Settles rows of one job. Returns their results by row number."""
    service = RowService(RowRepository(database), BoardCache(client.workspace.access))
    settlement = await service.settle(rows, advance=Advance(), locate=locate)
    records = build_outcome_records(settlement.outcomes)
    results = [
        result for record in records for result in parse_event(RowsSettled, record.value).results
    ]
    return sorted(results, key=lambda result: result.row_number)


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta or {"days": 1})).isoformat()


def find_ids(result: RowResult) -> tuple[UUID | None, UUID | None]:
    return result.pin_id, result.schedule_id


def name_undone(answer: dict[str, Any]) -> list[tuple[int, str]]:
    """Returns each undone row and what was done."""
    return [(item["row_number"], item["action"]) for item in answer["undone"]]


def name_left(answer: dict[str, Any]) -> list[tuple[int, str]]:
    """Returns each row that was left, and the reason."""
    return [(item["row_number"], item["reason"]) for item in answer["left"]]


async def wait_for_a_lock(database: Database, waiting: int = 1) -> None:
    """Waits until this many transactions wait for a lock."""

    async def is_waiting() -> bool:
        query = text(
            "select from pg_locks l join pg_database d on d.oid = l.database or l.database is null "
            "where not l.granted and d.datname = current_database()"
        )
        return len(await database.fetch_all(query)) >= waiting

    await eventually(is_waiting)
