"""A dry run says of every row what the import then makes of it.

Nothing else writes between the two. Keys have pins in every state: published, scheduled, due,
canceled, failed, deleted, undone, and of several generations.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from services.ingest.ids import new_job_id
from services.publisher.imports.check import RowChecker
from services.publisher.imports.commands import ImportCommands
from services.publisher.imports.repository import ImportRepository
from services.publisher.imports.schemas import UndoRequest
from services.publisher.rows.records import build_result
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from shared.access.cache import BoardCache
from shared.contract.events import OnExisting, RowAccepted, RowResult
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.profiles import examples
from tests.property.publisher.service import Publisher, confirm_always
from tests.support.factories import row_accepted, submitted_row

KEYS = [f"k{number}" for number in range(5)]
CHANGES = {
    "cancel": "state = 'cancelled', touched_at = now() where state = 'scheduled' and ",
    "make due": "run_at = now() - interval '1 minute' where state = 'scheduled' and ",
    "fail": "state = 'failed', failed_at = now(), error_code = 'board_not_found', error_message = "
    "'gone' where state = 'scheduled' and ",
    "delete": "deleted_at = now(), touched_at = now(), state = case state when 'scheduled' then "
    "'cancelled' else state end where deleted_at is null and ",
    "send": "state = 'publishing' where state = 'queued' and ",
    "deliver": "state = 'published', published_at = now(), pinterest_pin_id = "
    "cast(gen_random_uuid() as text) where state = 'publishing' and ",
    "remove": "removed_at = now() where pinterest_pin_id is not null and deleted_at is not null "
    "and ",
    "fail to confirm": "state = 'failed', failed_at = now(), error_code = 'publish_unconfirmed', "
    "error_message = 'gone' where state = 'publishing' and ",
    "edit": "title = 'Edited', touched_at = now() where state = 'scheduled' and ",
}
"""Changes of a key's pins between two imports, as the commands write them."""

rows = st.lists(
    st.fixed_dictionaries(
        {
            "idempotency_key": st.sampled_from(KEYS),
            "title": st.sampled_from(["A", "B"]),
            "board_id": st.sampled_from(["101", "101", "101", "404"]),
            "account": st.sampled_from(["own", "own", "own", "other", "unknown"]),
            "link_url": st.sampled_from([None, "https://shop.example/a"]),
            "run_at": st.sampled_from([None, "2020-06-01T00:00:00Z", "2090-01-01T00:00:00Z"]),
            "has_nul": st.sampled_from([False] * 15 + [True]),
        }
    ),
    min_size=1,
    max_size=8,
)
imports = st.tuples(st.just("import"), rows, st.sampled_from(OnExisting), st.integers(0, 8))
changes = st.tuples(st.sampled_from(sorted(CHANGES)), st.sampled_from(KEYS))
others = st.sampled_from([("undo",), ("publish due",), ("publish", KEYS[0]), ("publish", KEYS[1])])
steps = st.lists(st.one_of(imports, imports, changes, others), min_size=6, max_size=14)


class Workspace:
    """A workspace with rows that are checked, then settled."""

    def __init__(self, pool: Database, publisher: Publisher) -> None:
        self._pool = pool
        self._publisher = publisher
        self._store = RowRepository(pool)
        self._jobs: list[tuple[UUID, datetime]] = []

    async def create(self, *, is_connected: bool) -> None:
        self._is_connected = is_connected
        operator = self._publisher.operator
        self._id = await operator.create_workspace("Test")
        self._accounts = {"unknown": uuid4()}
        for name in ("own", "other"):
            account = await operator.add_account(self._id, name=name)
            self._accounts[name] = account
            await operator.add_board(self._id, account, "101", name="There")
        if is_connected:
            await self._publisher.connect(self._id, self._accounts["own"])

    async def take(self, step: Sequence[Any]) -> None:
        match step:
            case ("import", list() as fields, OnExisting() as on_existing, int() as middle):
                await self._import(fields, on_existing, middle)
            case ("undo",):
                # Where the delivery process is needed for an undo, another test shows it
                if not self._is_connected:
                    await self._undo()
            case ("publish due",):
                await self._publisher.publish_due()
            case ("publish", key):
                document = submitted_row(
                    idempotency_key=key,
                    board_id="101",
                    account_id=str(self._accounts["own"]),
                )
                await self._publisher.publish(self._id, document)
            case (change, key):
                statement = f"update publisher.pins set {CHANGES[change]} released_at is null and "
                await self._execute(
                    f"{statement} workspace_id = :id and idempotency_key = :key", key=key
                )

    async def _import(
        self, fields: list[dict[str, Any]], on_existing: OnExisting, middle: int
    ) -> None:
        accepted_at = datetime.now(UTC)
        job_id = new_job_id(accepted_at)
        rows = [
            self._build_row(job_id, number, accepted_at, on_existing, dict(row))
            for number, row in enumerate(fields, 1)
        ]
        boards = BoardCache(self._publisher.access)
        checked = await RowChecker(self._store, boards).check(rows)
        before = await self._dump()
        assert await RowChecker(self._store, boards).check(rows) == checked
        assert await self._dump() == before
        # Kafka may deliver the import in two batches
        settled = [
            result
            for batch in (rows[:middle], rows[middle:])
            if batch
            for result in await self._settle(batch)
        ]
        differences = [
            (row.row, pair)
            for row, *pair in zip(rows, checked, settled, strict=True)
            if pair[0] != pair[1]
        ]
        assert not differences
        self._jobs.append((job_id, accepted_at))

    def _build_row(
        self,
        job_id: UUID,
        number: int,
        accepted_at: datetime,
        on_existing: OnExisting,
        fields: dict[str, Any],
    ) -> RowAccepted:
        account_id, has_nul = self._accounts[fields.pop("account")], fields.pop("has_nul")
        row = row_accepted(
            job_id=job_id,
            workspace_id=self._id,
            row_number=number,
            accepted_at=accepted_at,
            account_id=str(account_id),
            **fields,
        )
        row = replace(row, on_existing=on_existing)
        return replace(row, row=replace(row.row, title="A\0")) if has_nul else row

    async def _settle(self, rows: Sequence[RowAccepted]) -> list[RowResult]:
        service = RowService(self._store, BoardCache(self._publisher.access))
        settlement = await service.settle(rows, advance=Advance())
        return sorted(map(build_result, settlement.outcomes), key=lambda result: result.row_number)

    async def _undo(self) -> None:
        if self._jobs:
            job_id, accepted_at = self._jobs.pop()
            commands = ImportCommands(ImportRepository(self._pool, confirm_always), "imports")
            await commands.undo(
                UndoRequest(workspace_id=self._id, job_id=job_id, accepted_at=accepted_at)
            )

    async def _dump(self) -> list[Any]:
        query = text("select * from publisher.pins where workspace_id = :id order by pin_id")
        return await self._pool.fetch_all(query.bindparams(id=self._id))

    async def _execute(self, statement: str, **values: Any) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(text(statement), {"id": self._id, **values})


@pytest.mark.timeout(900)  # Hypothesis shrinks a failure first
def test_a_dry_run_equals_the_import_row_by_row(pool: Database, run: Run) -> None:
    publisher = Publisher(pool)

    @examples(40)
    @given(steps=steps, is_connected=st.booleans())
    def check(steps: list[Any], *, is_connected: bool) -> None:
        async def play() -> None:
            workspace = Workspace(pool, publisher)
            await workspace.create(is_connected=is_connected)
            for step in steps:
                await workspace.take(step)

        run(play())

    check()
