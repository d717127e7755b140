"""Keys that were released, and rows that revive, update or were canceled, on the real Postgres."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace
from sqlalchemy import text

from services.publisher.generations import read_keys, release_keys
from services.publisher.ids import compute_generation_id, compute_pin_id
from services.publisher.rows.cancellation import RecordPosition
from services.publisher.rows.outcome_history_parsing import parse_outcomes
from services.publisher.rows.outcomes import Outcome
from services.publisher.rows.records import build_outcome_records, build_pin_event_records
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePinRepository
from shared.access.cache import BoardCache
from shared.contract.events import OnExisting, RowAccepted, RowResult, RowsSettled
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.store import PositionStore
from shared.kafka.records import Record
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.conftest import Client, read_error
from tests.property.records import build_consumer_records
from tests.support.events import parse_event
from tests.support.factories import BOARD, row_accepted
from tests.support.waiting import eventually

KEY = "lamp"
IN_2090 = "2090-01-01T00:00:00Z"
IN_2091 = "2091-01-01T00:00:00Z"
WAITING = text(
    "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)


def now(**later: float) -> datetime:
    return datetime.now(UTC) + timedelta(**later)


class Imports:
    """Settles imports of one workspace, each as a batch of its own."""

    def __init__(self, database: Database, workspace: Workspace) -> None:
        self._database = database
        self._workspace = workspace
        self._service = RowService(RowRepository(database), BoardCache(workspace.access))

    def row(self, **fields: Any) -> RowAccepted:
        """Builds a row that was accepted now, unless `accepted_at` says otherwise."""
        on_existing = fields.pop("on_existing", OnExisting.REPORT)
        known: dict[str, Any] = {
            "workspace_id": self._workspace.id,
            "account_id": str(self._workspace.account_id),
            "accepted_at": now(),
            "idempotency_key": KEY,
        }
        return replace(row_accepted(**(known | fields)), on_existing=on_existing)

    async def settle(
        self,
        *rows: RowAccepted,
        offsets: Mapping[int, int] | None = None,
        advance: Advance | None = None,
    ) -> list[RowResult]:
        """Settles rows. `offsets` are by the rows' numbers. Returns the rows' results in order."""
        settled = await self.settle_with_events(*rows, offsets=offsets, advance=advance)
        return [result for result, _ in settled]

    async def settle_with_events(
        self,
        *rows: RowAccepted,
        offsets: Mapping[int, int] | None = None,
        advance: Advance | None = None,
    ) -> list[tuple[RowResult, str | None]]:
        """Returns each row's result, and the id of the pin event that the batch announces."""
        positions = {
            id(row): RecordPosition(0, (offsets or {}).get(row.row_number, 0)) for row in rows
        }
        settlement = await self._service.settle(
            rows, advance=advance or Advance(), locate=lambda: positions
        )
        assert not settlement.rejected
        results = read_results(settlement.outcomes)
        events = [
            dict(record.headers)["ce_id"].decode()
            for record in build_pin_event_records(settlement.outcomes)
        ]
        return [
            (result, find_event(result, events))
            for result in (results[row.job_id, row.row_number] for row in rows)
        ]

    async def settle_to_records(self, *rows: RowAccepted) -> list[Record]:
        """Settles rows. Returns their records in the topic `outcomes`."""
        settlement = await self._service.settle(rows, advance=Advance())
        return build_outcome_records(settlement.outcomes)

    async def restore(self, outcomes: Sequence[Record]) -> None:
        """Records outcomes that were sent after the backup, as the publisher does first."""
        records = build_consumer_records(TopicName.OUTCOMES, outcomes)
        await RowRepository(self._database).record_outcomes(parse_outcomes(records), Advance())

    async def release(self, key: str = KEY) -> UUID:
        """Releases a key as an undo does. Returns the pin that had it."""
        first_pin_id = compute_pin_id(self._workspace.id, key)
        async with self._database.pipeline() as driver:
            state = (await read_keys(driver, [first_pin_id], lock=True))[first_pin_id]
            assert not state.is_free
            await release_keys(driver, [(first_pin_id, state.last_pin_id)])
        return state.last_pin_id

    async def execute(self, statement: str, **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(text(statement), values)

    async def pin(self, pin_id: UUID) -> dict[str, Any]:
        query = text("select * from publisher.pins where pin_id = :id").bindparams(id=pin_id)
        row = await self._database.fetch_first(query)
        assert row is not None
        return dict(row)

    async def live_pins(self) -> list[UUID]:
        query = text(
            "select pin_id from publisher.pins where workspace_id = :id and deleted_at is null"
        ).bindparams(id=self._workspace.id)
        return [row["pin_id"] for row in await self._database.fetch_all(query)]

    async def outbox(self, pin_id: UUID) -> list[str]:
        query = text(
            "select event_type from publisher.outbox where event_id like :id order by id"
        ).bindparams(id=f"{pin_id}:%")
        return [row["event_type"].split(".")[2] for row in await self._database.fetch_all(query)]

    async def publish_due(self) -> int:
        return await Scheduler(
            DuePinRepository(self._database), self._workspace.access, 100
        ).publish_due()

    def generation(self, number: int, key: str = KEY) -> UUID:
        return compute_generation_id(self._workspace.id, key, number)


def read_results(outcomes: Sequence[Outcome]) -> dict[tuple[UUID, int], RowResult]:
    events = [parse_event(RowsSettled, row.value) for row in build_outcome_records(outcomes)]
    return {
        (event.job_id, result.row_number): result for event in events for result in event.results
    }


def find_event(result: RowResult, events: Sequence[str]) -> str | None:
    ids = {result.pin_id, result.schedule_id}
    return next(
        (
            event
            for event in events
            if (pin_id := UUID(event.split(":")[0])) in ids or derive_schedule_id(pin_id) in ids
        ),
        None,
    )


@pytest.fixture
def imports(database: Database, workspace: Workspace) -> Imports:
    return Imports(database, workspace)


def summarize(result: RowResult) -> tuple[str, UUID | None, str | None]:
    state = result.existing_state
    return result.status.value, result.pin_id or result.schedule_id, state and state.value


# Released keys


async def test_invariant_3_a_later_import_takes_a_released_key_under_the_next_id(
    imports: Imports,
) -> None:
    first = imports.row()
    ((_, first_event),) = await imports.settle_with_events(first)
    assert await imports.release() == imports.generation(0)
    later = imports.row(title="Again")
    ((result, event),) = await imports.settle_with_events(later)
    assert summarize(result) == ("created", imports.generation(1), None)
    assert first_event == f"{imports.generation(0)}:published"
    assert event == f"{imports.generation(1)}:published"
    assert await imports.live_pins() == [imports.generation(1)]
    assert (await imports.pin(imports.generation(1)))["generation"] == 1


async def test_invariant_4_rows_of_all_generations_report_the_same_when_they_are_redelivered(
    imports: Imports,
) -> None:
    rows = []
    first = []
    for run_at in (None, IN_2090, None):
        rows.append(imports.row(run_at=run_at))
        first += await imports.settle(rows[-1])
        await imports.release()
    rows.append(imports.row())
    first += await imports.settle(rows[-1])
    assert await imports.settle(*rows) == first
    for row, result in zip(rows, first, strict=True):
        assert await imports.settle(row) == [result]
    assert {result.status.value for result in first} == {"created"}
    assert await imports.live_pins() == [imports.generation(3)]


async def test_a_schedule_of_a_later_generation_has_its_own_schedule_id(imports: Imports) -> None:
    await imports.settle(imports.row(run_at=IN_2090))
    await imports.release()
    ((result, event),) = await imports.settle_with_events(imports.row(run_at=IN_2090))
    assert result.schedule_id == derive_schedule_id(imports.generation(1))
    assert event == f"{imports.generation(1)}:scheduled"


async def test_a_row_that_was_accepted_before_the_release_changes_nothing(
    imports: Imports,
) -> None:
    late = imports.row(title="Late")
    await imports.settle(imports.row())
    await imports.release()
    (result,) = await imports.settle(late)
    assert summarize(result) == ("existing", imports.generation(0), "deleted")
    assert [difference.field for difference in result.differing_fields or []] == ["title"]
    await imports.settle(imports.row())
    assert await imports.settle(late) == [result], "it was recorded"
    assert await imports.live_pins() == [imports.generation(1)]


async def test_invariant_7_the_earliest_row_takes_a_free_key(imports: Imports) -> None:
    await imports.settle(imports.row())
    await imports.release()
    job, other = uuid4(), uuid4()
    accepted, later = now(), now(seconds=1)
    rows = [
        imports.row(job_id=other, row_number=1, accepted_at=later),
        imports.row(job_id=job, row_number=2, accepted_at=accepted),
        imports.row(job_id=job, row_number=1, accepted_at=accepted, board_id="gone"),
        imports.row(job_id=job, row_number=3, accepted_at=accepted),
    ]
    results = await imports.settle(*rows)
    assert [result.status.value for result in results] == [
        "existing",
        "created",
        "failed",
        "existing",
    ]
    assert {result.pin_id for result in results} == {imports.generation(1), None}
    assert await imports.settle(*rows) == results


async def test_many_publishers_give_a_free_key_to_one_row(
    imports: Imports, database: Database, workspace: Workspace
) -> None:
    keys = [f"key-{number}" for number in range(5)]
    job = uuid4()
    await imports.settle(
        *(
            imports.row(job_id=job, row_number=number, idempotency_key=key)
            for number, key in enumerate(keys, 1)
        )
    )
    for key in keys:
        await imports.release(key)
    publishers = [Imports(database, workspace) for _ in range(4)]
    jobs = [uuid4() for _ in publishers]
    batches = [
        [
            imports.row(job_id=job, row_number=number, idempotency_key=key)
            for number, key in enumerate(keys[index:] + keys[:index], 1)
        ]
        for index, job in enumerate(jobs)
    ]
    settled = await asyncio.gather(
        *(publisher.settle(*batch) for publisher, batch in zip(publishers, batches, strict=True))
    )
    results = [result for batch in settled for result in batch]
    created = [result.idempotency_key for result in results if result.status == "created"]
    assert sorted(key or "" for key in created) == keys
    assert set(await imports.live_pins()) == {imports.generation(1, key) for key in keys}
    assert {result.pin_id for result in results} == {imports.generation(1, key) for key in keys}


LOCK_PIN = text("select from publisher.pins where pin_id = :id for update nowait")


@pytest.mark.parametrize("command", ["settle", "undo"])
async def test_first_pins_are_locked_before_later_generations(
    imports: Imports, database: Database, client: Client, command: str
) -> None:
    """A later pin is only known after its key is locked. The other order would deadlock."""
    keys = (f"key-{number}" for number in range(100))
    key = next(key for key in keys if imports.generation(1, key) < imports.generation(0, key))
    await imports.settle(imports.row(idempotency_key=key))
    await imports.release(key)
    row = imports.row(idempotency_key=key)
    await imports.settle(row)
    later = replace(imports.row(idempotency_key=key), on_existing=OnExisting.REVIVE)
    reference = {
        "workspace_id": str(row.workspace_id),
        "job_id": str(row.job_id),
        "accepted_at": row.accepted_at.isoformat(),
        "dry_run": False,
    }
    async with asyncio.TaskGroup() as tasks, database.transaction() as connection:
        await connection.execute(LOCK_PIN, {"id": imports.generation(0, key)})
        if command == "settle":
            tasks.create_task(imports.settle(later))
        else:
            tasks.create_task(client.call_internally("imports/undo", reference))
        await eventually(lambda: database.fetch_all(WAITING))
        await connection.execute(LOCK_PIN, {"id": imports.generation(1, key)})


async def test_a_bulk_command_locks_first_pins_before_later_generations(
    imports: Imports, database: Database, client: Client
) -> None:
    """An undo locks the keys of all its pins before the pins. The other order would deadlock."""
    keys = [f"key-{number}" for number in range(100)]
    lowest = min(keys, key=lambda key: imports.generation(1, key))
    first, later = imports.generation(0, "other"), imports.generation(1, lowest)
    assert later < first
    await imports.settle(imports.row(idempotency_key="other"))
    await imports.settle(imports.row(idempotency_key=lowest))
    await imports.release(lowest)
    await imports.settle(imports.row(idempotency_key=lowest))
    async with asyncio.TaskGroup() as tasks, database.transaction() as connection:
        await connection.execute(LOCK_PIN, {"id": first})
        ids = [str(first), str(later)]
        deletion = tasks.create_task(client.post("/v1/pins/bulk-delete", {"ids": ids}))
        await eventually(lambda: database.fetch_all(WAITING))
        await connection.execute(LOCK_PIN, {"id": later})
    assert deletion.result().status_code == 200
    assert await imports.live_pins() == []


# Reviving


@pytest.mark.parametrize("change", ["deleted_at = now()", "state = 'cancelled'"])
async def test_a_row_revives_what_was_deleted_or_canceled(imports: Imports, change: str) -> None:
    creator = imports.row(run_at=IN_2090)
    (first,) = await imports.settle(creator)
    await imports.execute(
        f"update publisher.pins set {change}, touched_at = now() where pin_id = :id",
        id=imports.generation(0),
    )
    row = imports.row(run_at=IN_2091, on_existing=OnExisting.REVIVE)
    ((result, event),) = await imports.settle_with_events(row)
    assert result.status == "created"
    assert result.schedule_id == derive_schedule_id(imports.generation(1))
    assert event == f"{imports.generation(1)}:scheduled"
    assert await imports.settle(row, creator) == [result, first]
    assert await imports.live_pins() == [imports.generation(1)]


async def test_a_row_does_not_revive_what_was_deleted_after_its_import(imports: Imports) -> None:
    await imports.settle(imports.row())
    row = imports.row(on_existing=OnExisting.REVIVE)
    await imports.execute(
        "update publisher.pins set deleted_at = now(), touched_at = now() where pin_id = :id",
        id=imports.generation(0),
    )
    (result,) = await imports.settle(row)
    assert (result.status, result.existing_state) == ("existing", "deleted")
    assert await imports.live_pins() == []


@pytest.mark.parametrize("run_at", [None, IN_2090])
async def test_a_row_does_not_revive_what_stands(imports: Imports, run_at: str | None) -> None:
    await imports.settle(imports.row(run_at=run_at))
    row = imports.row(run_at=run_at, on_existing=OnExisting.REVIVE)
    (result,) = await imports.settle(row)
    assert (result.status, result.payload_matches) == ("existing", True)
    await imports.execute(
        "update publisher.pins set deleted_at = now() where pin_id = :id",
        id=imports.generation(0),
    )
    assert await imports.settle(row) == [result], "a redelivery revives nothing"
    assert await imports.live_pins() == []


@pytest.mark.parametrize("change", ["deleted_at = now()", "state = 'cancelled'"])
async def test_invariant_10_a_row_does_not_revive_the_pin_of_another_account(
    imports: Imports, workspace: Workspace, change: str
) -> None:
    """The import's API key may be limited to the row's account."""
    await imports.settle(imports.row(run_at=IN_2090))
    await imports.execute(
        f"update publisher.pins set {change}, touched_at = now() where pin_id = :id",
        id=imports.generation(0),
    )
    other = await workspace.add_account(BOARD)
    row = imports.row(account_id=str(other), on_existing=OnExisting.REVIVE)
    (result,) = await imports.settle(row)
    assert (result.status, result.payload_matches) == ("existing", False)
    assert await imports.settle(row) == [result]
    assert (await imports.pin(imports.generation(0)))["released_at"] is None
    (own,) = await imports.settle(imports.row(on_existing=OnExisting.REVIVE))
    assert summarize(own) == ("created", imports.generation(1), None)


async def test_a_row_that_can_not_be_published_revives_nothing(imports: Imports) -> None:
    await imports.settle(imports.row())
    await imports.execute(
        "update publisher.pins set deleted_at = now() where pin_id = :id",
        id=imports.generation(0),
    )
    row = imports.row(board_id="gone", on_existing=OnExisting.REVIVE)
    (result,) = await imports.settle(row)
    assert result.error_code == "board_not_found"
    assert await imports.settle(row) == [result]
    assert (await imports.pin(imports.generation(0)))["released_at"] is None


# Updating


async def test_an_updating_row_replaces_content_time_and_fingerprint(imports: Imports) -> None:
    creator = imports.row(run_at=IN_2090)
    (created,) = await imports.settle(creator)
    row = imports.row(
        run_at=IN_2091, title="New", related_terms=["a", "b"], on_existing=OnExisting.UPDATE
    )
    (result,) = await imports.settle(row)
    assert summarize(result) == ("existing", created.schedule_id, "scheduled")
    assert (result.updated, result.payload_matches) == (True, True)
    pin = await imports.pin(imports.generation(0))
    assert (pin["title"], pin["related_terms"]) == ("New", ["a", "b"])
    assert (pin["fingerprint"], pin["touched_at"]) == (row.fingerprint, row.accepted_at)
    assert pin["run_at"] == row.row.run_at
    assert pin["origin_job_id"] == creator.job_id
    assert await imports.outbox(imports.generation(0)) == ["scheduled"]
    assert await imports.settle(row, creator) == [result, created]
    assert await imports.outbox(imports.generation(0)) == ["scheduled"]


async def test_new_content_at_the_same_time_is_not_announced(imports: Imports) -> None:
    await imports.settle(imports.row(run_at=IN_2090))
    (result,) = await imports.settle(
        imports.row(run_at=IN_2090, title="New", on_existing=OnExisting.UPDATE)
    )
    assert result.updated
    assert await imports.outbox(imports.generation(0)) == []


async def test_an_update_without_a_time_is_published_at_once(imports: Imports) -> None:
    creator = imports.row(run_at=IN_2090)
    (created,) = await imports.settle(creator)
    (result,) = await imports.settle(imports.row(on_existing=OnExisting.UPDATE))
    assert summarize(result) == ("existing", created.schedule_id, "queued")
    assert await imports.publish_due() == 1
    pin = await imports.pin(imports.generation(0))
    assert (pin["state"], pin["published_at"] is not None) == ("published", True)
    assert await imports.settle(creator) == [created]
    assert await imports.outbox(imports.generation(0)) == ["scheduled", "published"]


async def test_an_update_schedules_a_failed_pin_again(imports: Imports) -> None:
    await imports.settle(imports.row(run_at=IN_2090))
    await imports.execute(
        "update publisher.pins set state = 'failed', failed_at = now(), run_at = now(), "
        "error_code = 'board_not_found', error_message = 'gone' where pin_id = :id",
        id=imports.generation(0),
    )
    (result,) = await imports.settle(imports.row(run_at=IN_2091, on_existing=OnExisting.UPDATE))
    assert (result.updated, result.existing_state) == (True, "scheduled")
    pin = await imports.pin(imports.generation(0))
    assert (pin["state"], pin["error_code"]) == ("scheduled", None)
    assert await imports.outbox(imports.generation(0)) == ["scheduled"]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("together", [False, True])
async def test_of_two_updates_the_later_import_wins(
    imports: Imports, order: list[int], *, together: bool
) -> None:
    await imports.settle(imports.row(run_at=IN_2090))
    rows = [
        imports.row(
            run_at=IN_2091,
            title=f"{number}",
            accepted_at=now(seconds=number),
            on_existing=OnExisting.UPDATE,
        )
        for number in (1, 2)
    ]
    ordered = [rows[index] for index in order]
    if together:
        await imports.settle(*ordered)
    else:
        for row in ordered:
            await imports.settle(row)
    assert (await imports.pin(imports.generation(0)))["title"] == "2"
    await imports.settle(rows[0])
    assert (await imports.pin(imports.generation(0)))["title"] == "2"


@pytest.mark.parametrize(
    "change",
    [
        "touched_at = now() + interval '1 hour'",
        "state = 'cancelled'",
        "state = 'published', published_at = now()",
        "deleted_at = now(), state = 'cancelled'",
        "account_id = gen_random_uuid()",
    ],
)
async def test_an_update_leaves_what_was_touched_later_published_or_removed(
    imports: Imports, change: str
) -> None:
    await imports.settle(imports.row(run_at=IN_2090))
    await imports.execute(
        f"update publisher.pins set {change} where pin_id = :id", id=imports.generation(0)
    )
    (result,) = await imports.settle(
        imports.row(run_at=IN_2091, title="New", on_existing=OnExisting.UPDATE)
    )
    assert (result.status, result.updated, result.payload_matches) == ("existing", None, False)
    assert (await imports.pin(imports.generation(0)))["title"] == "Autumn lamps"


async def test_a_row_that_can_not_be_published_updates_nothing(imports: Imports) -> None:
    await imports.settle(imports.row(run_at=IN_2090))
    row = imports.row(run_at=IN_2090, board_id="gone", on_existing=OnExisting.UPDATE)
    (result,) = await imports.settle(row)
    assert result.error_code == "board_not_found"
    assert await imports.settle(row) == [result]


async def test_an_update_waits_for_the_scheduler(imports: Imports, database: Database) -> None:
    """The scheduler has locked a due pin: the update finds it published."""
    await imports.settle(imports.row(run_at=IN_2090))
    await imports.execute(
        "update publisher.pins set run_at = now() where pin_id = :id", id=imports.generation(0)
    )
    async with DuePinRepository(database).lock_due(100) as batch:
        assert [pin["pin_id"] for pin in batch.pins] == [imports.generation(0)]
        update = asyncio.create_task(
            imports.settle(imports.row(run_at=IN_2091, on_existing=OnExisting.UPDATE))
        )
        await eventually(lambda: database.fetch_all(WAITING))
        await batch.publish(failures={})
    (result,) = await update
    assert (result.updated, result.existing_state) == (None, "published")


# Canceling


async def cancel(
    imports: Imports, row: RowAccepted, next_offset: int, *, partition: int = 0
) -> None:
    await imports.execute(
        "insert into publisher.canceled_jobs (job_id, workspace_id, partition, next_offset) "
        "values (:job_id, :workspace_id, :partition, :next_offset)",
        job_id=row.job_id,
        partition=partition,
        workspace_id=row.workspace_id,
        next_offset=next_offset,
    )


async def test_rows_of_a_canceled_job_fail_unless_they_were_settled_before(
    imports: Imports,
) -> None:
    job = uuid4()
    await imports.settle(imports.row(idempotency_key="taken"))
    contents = [
        {"idempotency_key": "a"},
        {"idempotency_key": "taken"},
        {"idempotency_key": "b", "board_id": "gone"},
        {"idempotency_key": "c"},
        {"idempotency_key": "taken"},
        {"idempotency_key": "d", "board_id": "gone"},
    ]
    rows = [
        imports.row(job_id=job, row_number=number, **content)
        for number, content in enumerate(contents, 1)
    ]
    offsets = {row.row_number: row.row_number + 10 for row in rows}
    settled = await imports.settle(*rows[:3], offsets=offsets)
    await cancel(imports, rows[0], next_offset=14)
    results = await imports.settle(*rows, offsets=offsets)
    assert results[:3] == settled
    assert [result.status.value for result in settled] == ["created", "existing", "failed"]
    assert [result.error_code for result in results[3:]] == ["canceled"] * 3
    assert len(await imports.live_pins()) == 2
    assert await imports.settle(*rows, offsets=offsets) == results
    # Another job of the same batch is not concerned
    other = imports.row(idempotency_key="c")
    other_result, *again = await imports.settle(other, *rows, offsets=offsets)
    assert (other_result.status, again) == ("created", results)


async def test_a_job_id_of_another_workspace_cancels_nothing(imports: Imports) -> None:
    row = imports.row()
    await cancel(imports, replace(row, workspace_id=uuid4()), next_offset=0)
    (result,) = await imports.settle(row)
    assert result.status == "created"


async def test_a_partition_that_had_no_position_yet_is_canceled_too(imports: Imports) -> None:
    row = imports.row()
    await cancel(imports, row, next_offset=100, partition=1)
    (result,) = await imports.settle(row, offsets={1: 5})
    assert result.error_code == "canceled"
    assert await imports.live_pins() == []


async def test_a_canceled_row_with_a_value_that_postgres_rejects_fails_once(
    imports: Imports, database: Database, workspace: Workspace
) -> None:
    job = uuid4()
    rows = [imports.row(job_id=job, row_number=number, idempotency_key="x") for number in (1, 2)]
    rows[0] = replace(rows[0], row=replace(rows[0].row, title="nul\0"))
    await cancel(imports, rows[0], next_offset=0)
    results = await imports.settle(*rows, offsets={1: 5, 2: 6})
    assert [result.error_code for result in results] == ["canceled", "canceled"]


class LockedPartition(NamedTuple):
    """A partition whose position is stored, and a batch of three records in it."""

    topic: str
    advance: Advance


async def add_partition(database: Database) -> LockedPartition:
    partition = TopicPartition(f"topic-{uuid4()}", 0)
    await PositionStore(database, "publisher").add({partition: 10}, "cluster")
    await database.warm()
    advance = Advance({partition: Span(10, 13)}, time.monotonic())
    return LockedPartition(partition.topic, advance)


CANCEL_AT_POSITION = text("""
    insert into publisher.canceled_jobs (job_id, workspace_id, partition, next_offset)
    select :job_id, :workspace_id, partition, next_offset from publisher.positions
    where topic = :topic
""")


async def test_a_batch_waits_for_a_cancellation_that_holds_its_position(
    imports: Imports, database: Database
) -> None:
    job = uuid4()
    rows = [
        imports.row(job_id=job, row_number=number, idempotency_key=f"{number}")
        for number in (1, 2, 3)
    ]
    offsets = {1: 10, 2: 11, 3: 12}
    topic, advance = await add_partition(database)
    async with database.transaction() as connection:
        lock = text("select from publisher.positions where topic = :topic for update")
        await connection.execute(lock, {"topic": topic})
        batch = asyncio.create_task(imports.settle(*rows, offsets=offsets, advance=advance))
        await eventually(lambda: database.fetch_all(WAITING))
        values = {"job_id": job, "workspace_id": rows[0].workspace_id, "topic": topic}
        await connection.execute(CANCEL_AT_POSITION, values)
    results = await batch
    assert [result.error_code for result in results] == ["canceled"] * 3
    assert await imports.live_pins() == []
    assert advance.is_stored, "the batch was settled completely in one transaction"


async def test_a_cancellation_after_a_batch_changes_none_of_its_rows(
    imports: Imports, database: Database
) -> None:
    job = uuid4()
    await imports.settle(imports.row(idempotency_key="3"))
    rows = [
        imports.row(job_id=job, row_number=number, idempotency_key=f"{number}")
        for number in (1, 2, 3)
    ]
    offsets = {1: 10, 2: 11, 3: 12}
    topic, advance = await add_partition(database)
    results = await imports.settle(*rows, offsets=offsets, advance=advance)
    async with database.transaction() as connection:
        values = {"job_id": job, "workspace_id": rows[0].workspace_id, "topic": topic}
        await connection.execute(CANCEL_AT_POSITION, values)
    assert [result.status.value for result in results] == ["created", "created", "existing"]
    assert await imports.settle(*rows, offsets=offsets, advance=advance) == results


INSERT_UNDER_ANOTHER_KEY = text("""
    insert into publisher.pins
    select (jsonb_populate_record(p, jsonb_build_object(
        'pin_id', cast(:pin_id as text), 'idempotency_key', 'new', 'deleted_at', null,
        'released_at', null
    ))).*
    from publisher.pins p where pin_id = :original
""")


@pytest.mark.parametrize("on_existing", OnExisting)
async def test_a_cancellation_amid_a_batch_fails_every_row_that_has_no_outcome(
    imports: Imports, database: Database, on_existing: OnExisting
) -> None:
    """Rows on the locking path have no outcome after the batch's first transaction."""
    await imports.settle(imports.row(run_at=IN_2090))
    if on_existing is OnExisting.REPORT:
        await imports.release()
    elif on_existing is OnExisting.REVIVE:
        await imports.execute(
            "update publisher.pins set state = 'cancelled' where pin_id = :id",
            id=imports.generation(0),
        )
    before = await imports.pin(imports.generation(0))
    job = uuid4()
    rows = [
        imports.row(job_id=job, row_number=1, idempotency_key="new"),
        imports.row(job_id=job, row_number=2, run_at=IN_2091, on_existing=on_existing),
    ]
    topic, advance = await add_partition(database)
    async with database.transaction() as connection, asyncio.TaskGroup() as tasks:
        # The batch's first transaction waits for this pin, and then meets the end of its key
        own = compute_pin_id(rows[0].workspace_id, "new")
        values = {"pin_id": str(own), "original": imports.generation(0)}
        await connection.execute(INSERT_UNDER_ANOTHER_KEY, values)
        settle = imports.settle(*rows, offsets={1: 10, 2: 11}, advance=advance)
        batch = tasks.create_task(settle)
        await eventually(lambda: database.fetch_all(WAITING))
        pins = [imports.generation(number) for number in (0, 1)]
        cancellation = tasks.create_task(cancel_at_position(database, rows[1], topic, pins))
        await eventually(lambda: have_begun_to_wait(database, 2))
        await connection.rollback()
    first, second = batch.result()
    # Usually it comes before the second transaction, but Postgres does not promise it
    was_settled = cancellation.result()
    assert (second.error_code == "canceled") is not was_settled
    if not was_settled:
        assert await imports.pin(imports.generation(0)) == before
        created = {own} if first.status == "created" else set()
        assert {*await imports.live_pins()} - {imports.generation(0)} == created


async def cancel_at_position(
    database: Database, row: RowAccepted, topic: str, pins: Sequence[UUID]
) -> bool:
    """Cancels a job as the command does: with a lock on the position.

    Returns whether the row had changed the first of the pins or created the second one before.
    """
    settled = text(
        "select from publisher.pins where pin_id = :later or (pin_id = :first and touched_at "
        "is not null)"
    )
    async with database.transaction() as connection:
        lock = text("select from publisher.positions where topic = :topic for update")
        await connection.execute(lock, {"topic": topic})
        values = {"job_id": row.job_id, "workspace_id": row.workspace_id, "topic": topic}
        await connection.execute(CANCEL_AT_POSITION, values)
        found = await connection.execute(settled, {"first": pins[0], "later": pins[1]})
        return bool(found.all())


async def have_begun_to_wait(database: Database, count: int) -> bool:
    return len(await database.fetch_all(WAITING)) >= count


# Restoring


async def lose(imports: Imports, *rows: RowAccepted) -> None:
    """Deletes what Postgres has of rows, as if it was restored from an older backup."""
    jobs = [row.job_id for row in rows]
    for table, column in (("row_outcomes", "job_id"), ("pins", "origin_job_id")):
        await imports.execute(
            f"delete from publisher.{table} where {column} = any(:jobs)", jobs=jobs
        )


async def test_a_lost_generation_reserves_its_key_until_its_row_is_settled_again(
    imports: Imports, database: Database, client: Client
) -> None:
    creator = imports.row()
    await imports.settle(creator)
    await imports.release()
    later = imports.row(title="Later")
    outcomes = await imports.settle_to_records(later)
    assert await imports.release() == imports.generation(1)
    last = imports.row(title="Last")
    outcomes += await imports.settle_to_records(last)
    # The backup has the key after its first release, and nothing later
    await lose(imports, later, last)
    await imports.execute(
        "update publisher.pins set current_pin_id = null, generation = null where pin_id = :id",
        id=imports.generation(0),
    )
    await imports.restore(outcomes)
    answer = await client.post("/v1/pins", client.pin(idempotency_key=KEY))
    assert read_error(answer) == (503, "key_recovering")
    (other,) = await imports.settle(imports.row(title="Other"))
    assert summarize(other) == ("existing", imports.generation(2), "published")
    assert await imports.live_pins() == []
    (result,) = await imports.settle(last)
    assert summarize(result) == ("created", imports.generation(2), None)
    (result,) = await imports.settle(later)
    assert summarize(result) == ("created", imports.generation(1), None)
    assert await imports.live_pins() == [imports.generation(2)]
    again = await client.post("/v1/pins", client.pin(idempotency_key=KEY, title="Last"))
    assert (again.status_code, again.json()["id"]) == (201, str(imports.generation(2)))


async def test_a_generation_is_restored_if_a_direct_call_had_the_key_before(
    imports: Imports, client: Client
) -> None:
    """No outcome names the first pin of the key, which the backup does not have either."""
    first = await client.post("/v1/pins", client.pin(idempotency_key=KEY))
    await client.delete(f"/v1/pins/{first.json()['id']}")
    reviving = imports.row(on_existing=OnExisting.REVIVE)
    outcomes = await imports.settle_to_records(reviving)
    await lose(imports, reviving)
    await imports.execute("delete from publisher.pins where pin_id = :id", id=imports.generation(0))
    await imports.restore(outcomes)
    for _ in range(2):
        (result,) = await imports.settle(reviving)
        assert summarize(result) == ("created", imports.generation(1), None)
        assert await imports.live_pins() == [imports.generation(1)]
    assert (await imports.pin(imports.generation(0)))["origin_job_id"] is None


async def test_a_lost_update_is_applied_again(imports: Imports) -> None:
    creator = imports.row(run_at=IN_2090)
    await imports.settle(creator)
    before = await imports.pin(imports.generation(0))
    update = imports.row(run_at=IN_2091, title="New", on_existing=OnExisting.UPDATE)
    outcomes = await imports.settle_to_records(update)
    after = await imports.pin(imports.generation(0))
    await imports.execute(
        "update publisher.pins set title = :title, run_at = :run_at, fingerprint = :fingerprint, "
        "touched_at = null where pin_id = :pin_id",
        **{name: before[name] for name in ("title", "run_at", "fingerprint", "pin_id")},
    )
    await imports.execute("delete from publisher.row_outcomes where job_id = :id", id=update.job_id)
    await imports.restore(outcomes)
    for _ in range(2):
        (result,) = await imports.settle(update)
        assert (result.updated, result.existing_state) == (True, "scheduled")
        restored = await imports.pin(imports.generation(0))
        assert {**restored, "updated_at": None} == {**after, "updated_at": None}
    assert await imports.outbox(imports.generation(0)) == ["scheduled", "scheduled"]
