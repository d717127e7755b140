"""The keyed store on the real Postgres: one publication per key, and outcomes that never change."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from services.publisher.ids import compute_pin_id
from services.publisher.rows.outcomes import (
    CreatedRow,
    ExistingRow,
    FailedRow,
    Outcome,
    RecordedRow,
    find_result_ids,
)
from services.publisher.rows.records import build_outcome_records
from services.publisher.rows.repository import RowRepository, RowTransaction
from services.publisher.rows.service import RowService, Settlement
from shared.access.cache import BoardCache
from shared.contract.events import FieldDifference, RowAccepted, RowResult, RowsSettled
from shared.contract.row_identity import UnreadableRow
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.wire import encode
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.support.events import parse_event
from tests.support.factories import BOARD, NOON, row_accepted


class Partition:
    """Settles rows like the publisher that owns this partition."""

    def __init__(self, settler: RowService, number: int) -> None:
        self._settler = settler
        self._number = number

    async def settle(
        self, rows: Sequence[RowAccepted], unreadable: Sequence[UnreadableRow] = ()
    ) -> Settlement:
        return await self._settler.settle(rows, unreadable, advance=Advance())


@pytest.fixture
def settler(database: Database, workspace: Workspace) -> Partition:
    return build_settler(database, workspace)


def build_settler(database: Database, workspace: Workspace, partition: int = 0) -> Partition:
    return Partition(RowService(RowRepository(database), BoardCache(workspace.access)), partition)


def build_row(workspace: Workspace, **fields: Any) -> RowAccepted:
    return row_accepted(
        **{"workspace_id": workspace.id, "account_id": str(workspace.account_id), **fields}
    )


def summarize(outcomes: Sequence[Outcome]) -> list[tuple[str, Any]]:
    """Returns the kind of each outcome, with its ids or its error code."""
    return [_summarize_outcome(outcome) for outcome in outcomes]


def _summarize_outcome(outcome: Outcome) -> tuple[str, Any]:
    match outcome:
        case FailedRow():
            return "failed", outcome.failure.error_code
        case RecordedRow():
            recorded = outcome.recorded
            return f"recorded {recorded.status}", (recorded.pin_id, recorded.schedule_id)
        case CreatedRow():
            return "created", find_result_ids(outcome)
        case ExistingRow():
            return "existing", find_result_ids(outcome)


async def test_a_partly_new_batch_finds_existing_pins(
    settler: Partition, workspace: Workspace
) -> None:
    """Existing pins are looked up unless every id was inserted.

    Here one key is new, one has a pin, and one fails its check.
    """
    (before,) = (await settler.settle([build_row(workspace, idempotency_key="existing")])).outcomes
    job = uuid4()
    keys = [
        ("new", {}),
        ("new", {}),
        ("existing", {}),
        ("existing", {"board_id": "gone"}),
        ("refused", {"board_id": "gone"}),
    ]
    rows = [
        build_row(workspace, job_id=job, row_number=number, idempotency_key=key, **more)
        for number, (key, more) in enumerate(keys, 1)
    ]
    new, existing = (compute_pin_id(workspace.id, key) for key in ("new", "existing"))
    first = summarize((await settler.settle(rows)).outcomes)
    assert summarize([before]) == [("created", (existing, None))]
    assert first == [
        ("created", (new, None)),
        ("existing", (new, None)),
        ("existing", (existing, None)),
        ("existing", (existing, None)),
        ("failed", "board_not_found"),
    ]
    assert summarize((await settler.settle(rows)).outcomes) == first


async def count_pins(database: Database, workspace: Workspace) -> int:
    async with database.transaction() as connection:
        query = text("select count(*) from publisher.pins where workspace_id = :id")
        return int((await connection.execute(query, {"id": workspace.id})).scalar_one())


async def test_a_row_is_published_under_the_id_of_its_key(
    settler: Partition, workspace: Workspace
) -> None:
    row = build_row(workspace)
    settlement = await settler.settle([row])
    assert summarize(settlement.outcomes) == [
        ("created", (compute_pin_id(workspace.id, row.row.idempotency_key), None))
    ]


async def test_invariant_4_a_redelivered_batch_has_the_same_outcomes(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    job = uuid4()
    rows = [build_row(workspace, job_id=job, row_number=number) for number in range(1, 6)]
    rows.append(build_row(workspace, job_id=job, row_number=6, board_id="gone"))
    first = await settler.settle(rows)
    again = await settler.settle(rows)
    assert summarize(again.outcomes) == summarize(first.outcomes)
    assert [kind for kind, _ in summarize(first.outcomes)] == ["created"] * 5 + ["failed"]
    assert await count_pins(database, workspace) == 5


async def test_invariant_3_the_same_key_in_a_later_import_exists(
    settler: Partition, workspace: Workspace
) -> None:
    first, second = (
        build_row(workspace, idempotency_key="k"),
        build_row(workspace, idempotency_key="k"),
    )
    await settler.settle([first])
    settlement = await settler.settle([second])
    (outcome,) = settlement.outcomes
    assert isinstance(outcome, ExistingRow)
    assert outcome.stored.origin_job_id == first.job_id


async def read_results(settler: Partition, *rows: RowAccepted) -> list[RowResult]:
    """Settles rows of one import. Returns their results, by row number."""
    records = build_outcome_records((await settler.settle(rows)).outcomes)
    events = [parse_event(RowsSettled, record.value) for record in records]
    results = [result for event in events for result in event.results]
    return sorted(results, key=lambda result: result.row_number)


@pytest.mark.parametrize(
    ("change", "run_at", "state"),
    [
        ("", None, "published"),
        ("deleted_at = now()", None, "deleted"),
        ("", "2031-01-01T00:00:00Z", "scheduled"),
        ("run_at = now() - interval '1 second'", "2031-01-01T00:00:00Z", "queued"),
        ("state = 'published', published_at = now()", "2031-01-01T00:00:00Z", "published"),
        ("state = 'cancelled'", "2031-01-01T00:00:00Z", "canceled"),
        ("state = 'cancelled', deleted_at = now()", "2031-01-01T00:00:00Z", "deleted"),
        (
            "state = 'failed', failed_at = now(), error_code = 'c', error_message = 'm'",
            "2031-01-01T00:00:00Z",
            "failed",
        ),
    ],
)
async def test_an_existing_row_says_what_stands_under_its_key(
    settler: Partition,
    workspace: Workspace,
    database: Database,
    change: str,
    run_at: str | None,
    state: str,
) -> None:
    first = build_row(workspace, idempotency_key="k", run_at=run_at)
    (created,) = await read_results(settler, first)
    assert (created.existing_state, created.differing_fields) == (None, None)
    if change:
        async with database.transaction() as connection:
            statement = text(f"update publisher.pins set {change} where origin_job_id = :id")
            await connection.execute(statement, {"id": first.job_id})
    again = build_row(workspace, idempotency_key="k", run_at=run_at)
    (existing,) = await read_results(settler, again)
    assert (existing.status, existing.existing_state) == ("existing", state)
    assert (existing.payload_matches, existing.differing_fields) == (True, None)


async def test_an_existing_row_names_the_fields_that_differ(
    settler: Partition, workspace: Workspace
) -> None:
    """Also rows of one batch that share a key, and rows whose destination is unknown."""
    job = uuid4()
    stored = build_row(workspace, idempotency_key="old", related_terms=["a", "b"])
    await settler.settle([stored])
    contents: list[dict[str, Any]] = [
        {"idempotency_key": "old", "title": "Other", "board_id": "gone", "related_terms": "b,c"},
        {"idempotency_key": "old", "related_terms": ["a", "b"]},
        {"idempotency_key": "new", "run_at": "2031-01-01T00:00:00Z"},
        {"idempotency_key": "new", "run_at": "2031-01-02T00:00:00Z", "description": None},
        {"idempotency_key": "new", "run_at": "2031-01-01T00:00:00+00:00"},
    ]
    rows = [
        build_row(workspace, job_id=job, row_number=number, **fields)
        for number, fields in enumerate(contents, 1)
    ]
    first = await read_results(settler, *rows)
    assert [result.payload_matches for result in first] == [False, True, None, False, True]
    assert [result.differing_fields for result in first] == [
        [
            FieldDifference(field="board_id", stored=BOARD, sent="gone"),
            FieldDifference(field="title", stored="Autumn lamps", sent="Other"),
            FieldDifference(field="related_terms", stored="a, b", sent="b, c"),
        ],
        None,
        None,
        [
            FieldDifference(field="description", stored=stored.row.description, sent=None),
            FieldDifference(
                field="run_at", stored="2031-01-01T00:00:00Z", sent="2031-01-02T00:00:00Z"
            ),
        ],
        None,
    ]
    assert await read_results(settler, *rows) == first


async def test_a_row_that_postgres_rejects_names_the_fields_that_differ(
    settler: Partition, workspace: Workspace
) -> None:
    await settler.settle([build_row(workspace, idempotency_key="k")])
    row = build_row(workspace, idempotency_key="k", alt_text="b")
    impossible = replace(row, row=replace(row.row, title="a\0b"))
    (existing,) = await read_results(settler, impossible)
    assert existing.differing_fields == [
        FieldDifference(field="title", stored="Autumn lamps", sent="a\N{REPLACEMENT CHARACTER}b"),
        FieldDifference(field="alt_text", stored=None, sent="b"),
    ]


async def test_a_pin_that_was_edited_to_the_sent_content_does_not_differ(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    await settler.settle([build_row(workspace, idempotency_key="k")])
    async with database.transaction() as connection:
        statement = text("update publisher.pins set title = 'Edited' where workspace_id = :id")
        await connection.execute(statement, {"id": workspace.id})
    (existing,) = await read_results(
        settler, build_row(workspace, idempotency_key="k", title="Edited")
    )
    assert (existing.payload_matches, existing.differing_fields) == (False, [])


@pytest.mark.parametrize("queries", [0, 1])
async def test_contents_are_read_only_if_a_fingerprint_differs(
    settler: Partition, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, queries: int
) -> None:
    reads: list[Any] = []
    read_contents = RowTransaction.read_contents

    async def count(transaction: RowTransaction, pin_ids: Any) -> Any:
        reads.append(pin_ids)
        return await read_contents(transaction, pin_ids)

    monkeypatch.setattr(RowTransaction, "read_contents", count)
    job = uuid4()
    rows = [
        build_row(workspace, job_id=job, row_number=number, idempotency_key=f"k{number % 3}")
        for number in range(1, 7)
    ]
    other = replace(rows[5], row=replace(rows[5].row, title="x"), fingerprint=uuid4())
    await settler.settle([*rows[:5], other] if queries else rows)
    assert len(reads) == queries


async def test_an_existing_row_with_different_content_reports_it(
    settler: Partition, workspace: Workspace
) -> None:
    await settler.settle([build_row(workspace, idempotency_key="k")])
    same, other = (
        build_row(workspace, idempotency_key="k"),
        build_row(workspace, idempotency_key="k", title="Other"),
    )
    settlement = await settler.settle([same, other])
    by_job = {
        outcome.keyed.row.job_id: outcome.stored.fingerprint == outcome.keyed.row.fingerprint
        for outcome in settlement.outcomes
        if isinstance(outcome, ExistingRow)
    }
    assert by_job == {same.job_id: True, other.job_id: False}


async def test_invariant_7_among_equal_keys_in_a_batch_the_earliest_jobs_lowest_row_wins(
    settler: Partition, workspace: Workspace
) -> None:
    early, late = uuid4(), uuid4()
    rows = [
        build_row(
            workspace,
            job_id=late,
            row_number=1,
            accepted_at=NOON + timedelta(seconds=1),
            idempotency_key="k",
        ),
        build_row(workspace, job_id=early, row_number=9, idempotency_key="k"),
        build_row(workspace, job_id=early, row_number=2, idempotency_key="k"),
    ]
    settlement = await settler.settle(rows)
    winners = [
        (outcome.keyed.row.job_id, outcome.keyed.row.row_number)
        for outcome in settlement.outcomes
        if isinstance(outcome, CreatedRow)
    ]
    assert winners == [(early, 2)]


async def test_invariant_10_workspaces_do_not_share_keys(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    other = await make_workspace(database)
    settlement = await settler.settle(
        [build_row(workspace, idempotency_key="k"), build_row(other, idempotency_key="k")]
    )
    assert [kind for kind, _ in summarize(settlement.outcomes)] == ["created", "created"]


async def test_a_run_at_in_the_past_publishes_and_one_in_the_future_schedules(
    settler: Partition, workspace: Workspace
) -> None:
    past = build_row(workspace, run_at="2026-11-23T11:59:59Z")
    future = build_row(
        workspace,
        run_at="2026-11-23T12:00:01Z",
        job_id=uuid4(),
        accepted_at=NOON + timedelta(milliseconds=1),
    )
    settlement = await settler.settle([past, future])
    future_id = compute_pin_id(workspace.id, future.row.idempotency_key)
    assert summarize(settlement.outcomes) == [
        ("created", (compute_pin_id(workspace.id, past.row.idempotency_key), None)),
        ("created", (None, derive_schedule_id(future_id))),
    ]


async def test_invariant_6_a_failed_row_leaves_its_key_free(
    settler: Partition, workspace: Workspace
) -> None:
    await settler.settle([build_row(workspace, idempotency_key="k", board_id="gone")])
    settlement = await settler.settle([build_row(workspace, idempotency_key="k")])
    assert isinstance(settlement.outcomes[0], CreatedRow)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"account_id": str(uuid4())}, "account_not_found"),
        ({"board_id": "gone"}, "board_not_found"),
    ],
)
async def test_an_unknown_destination_fails_the_row(
    settler: Partition, workspace: Workspace, fields: dict[str, str], code: str
) -> None:
    settlement = await settler.settle([build_row(workspace, **fields)])
    assert summarize(settlement.outcomes) == [("failed", code)]


async def test_invariant_10_another_workspaces_account_is_unknown(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    other = await make_workspace(database)
    settlement = await settler.settle([build_row(workspace, account_id=str(other.account_id))])
    assert summarize(settlement.outcomes) == [("failed", "account_not_found")]


async def test_invariant_4_a_failed_row_redelivered_after_its_cause_has_gone_is_still_failed(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    row = build_row(workspace, board_id="soon")
    await settler.settle([row])
    await workspace.operator.add_board(workspace.id, workspace.account_id, "soon", name="Soon")
    again = await settler.settle([row])
    assert summarize(again.outcomes) == [("failed", "board_not_found")]
    assert await count_pins(database, workspace) == 0


async def test_invariant_4_a_created_row_redelivered_after_its_account_has_gone_is_still_created(
    workspace: Workspace, database: Database
) -> None:
    row = build_row(workspace)
    await build_settler(database, workspace).settle([row])
    async with database.transaction() as connection:
        await connection.execute(
            text("update access.accounts set revoked_at = now() where id = :id"),
            {"id": workspace.account_id},
        )
    again = await build_settler(database, workspace).settle([row])
    assert isinstance(again.outcomes[0], CreatedRow)


async def test_a_failing_row_before_a_valid_one_with_the_same_key_fails_in_any_batch(
    settler: Partition, workspace: Workspace
) -> None:
    job = uuid4()
    bad = build_row(workspace, job_id=job, row_number=1, idempotency_key="k", board_id="gone")
    good = build_row(workspace, job_id=job, row_number=2, idempotency_key="k")
    bad_again = build_row(workspace, job_id=job, row_number=3, idempotency_key="k", board_id="gone")
    settlement = await settler.settle([bad, good, bad_again])
    assert [kind for kind, _ in summarize(settlement.outcomes)] == ["failed", "created", "existing"]
    alone = await settler.settle([bad])
    assert [kind for kind, _ in summarize(alone.outcomes)] == ["failed"]


async def test_an_unreadable_row_is_failed_and_recorded(
    settler: Partition, workspace: Workspace
) -> None:
    unreadable = UnreadableRow(uuid4(), workspace.id, 7)
    good = build_row(workspace)
    settlement = await settler.settle([good], [unreadable])
    assert [kind for kind, _ in summarize(settlement.outcomes)] == ["created", "failed"]
    now_readable = build_row(workspace, job_id=unreadable.job_id, row_number=7)
    assert summarize((await settler.settle([now_readable])).outcomes) == [
        ("failed", "internal_error")
    ]


async def test_invariant_8_a_row_that_postgres_rejects_fails_alone(
    settler: Partition, workspace: Workspace
) -> None:
    rows = [build_row(workspace) for _ in range(9)]
    poison = build_row(workspace)
    poison = replace(poison, row=replace(poison.row, title="a\0b"))
    settlement = await settler.settle([*rows[:4], poison, *rows[4:]])
    failed_jobs = [row.job_id for row in settlement.outcomes if isinstance(row, FailedRow)]
    assert failed_jobs == [poison.job_id]
    assert sum(isinstance(outcome, CreatedRow) for outcome in settlement.outcomes) == 9
    assert [row.job_id for row, _ in settlement.rejected] == [poison.job_id]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_invariant_8_a_row_with_an_unreadable_time_fails_alone(
    settler: Partition, workspace: Workspace, time: str
) -> None:
    """Postgres would store it. Lists and the scheduler would then fail at its pin."""
    foreign = replace(build_row(workspace), accepted_at=datetime.fromisoformat(time))
    settlement = await settler.settle([build_row(workspace), foreign, build_row(workspace)])
    assert sorted(kind for kind, _ in summarize(settlement.outcomes)) == [
        "created",
        "created",
        "failed",
    ]
    assert [row.job_id for row, _ in settlement.rejected] == [foreign.job_id]


async def test_invariant_4_the_outcome_of_a_rejected_row_does_not_change_with_its_board(
    settler: Partition, workspace: Workspace
) -> None:
    await settler.settle([build_row(workspace, idempotency_key="k")])
    row = build_row(workspace, idempotency_key="k", board_id="later")
    impossible = replace(row, row=replace(row.row, title="a\0b"))
    first = summarize(
        (await settler.settle([impossible])).outcomes
    )  # it fails its checks, so Postgres never sees its title
    await workspace.operator.add_board(workspace.id, workspace.account_id, "later", name="Later")
    assert summarize((await settler.settle([impossible])).outcomes) == first
    assert first == [("existing", (compute_pin_id(workspace.id, "k"), None))]


async def test_a_board_id_that_postgres_cannot_store_fails_only_its_row(
    settler: Partition, workspace: Workspace
) -> None:
    row = build_row(workspace)
    impossible = replace(row, row=replace(row.row, board_id="a\0b"))
    settlement = await settler.settle([impossible, build_row(workspace)])
    assert sorted(kind for kind, _ in summarize(settlement.outcomes)) == ["created", "failed"]


async def test_invariant_8_status_can_store_the_failure_of_a_row_that_postgres_rejects(
    settler: Partition, workspace: Workspace
) -> None:
    """Otherwise the job would never end: status would send the result to the dead letters."""
    row = build_row(workspace, board_id="gone")
    impossible = replace(row, row=replace(row.row, idempotency_key="a\0b"))
    (record,) = build_outcome_records((await settler.settle([impossible])).outcomes)
    (result,) = parse_event(RowsSettled, record.value).results
    assert (result.error_code, result.idempotency_key) == ("board_not_found", "a\ufffdb")


async def test_a_collision_of_pin_ids_fails_the_row(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    row = build_row(workspace)
    await settler.settle([row])
    async with database.transaction() as connection:
        statement = text(
            "update publisher.pins set idempotency_key = 'another' where origin_job_id = :id"
        )
        await connection.execute(statement, {"id": row.job_id})
    assert summarize((await settler.settle([row])).outcomes) == [("failed", "internal_error")]


async def test_invariant_3_two_publishers_with_overlapping_keys_neither_deadlock_nor_publish_twice(
    workspace: Workspace, database: Database
) -> None:
    def batch(number: int) -> list[RowAccepted]:
        job = UUID(int=number)
        return [
            build_row(workspace, job_id=job, row_number=n + 1, idempotency_key=f"shared-{n}")
            for n in range(300)
        ]

    settlers = [build_settler(database, workspace, partition) for partition in range(4)]
    batches = [batch(1), list(reversed(batch(2))), batch(3), list(reversed(batch(4)))]
    settlements: list[Settlement] = await asyncio.gather(
        *(settler.settle(rows) for settler, rows in zip(settlers, batches, strict=True))
    )
    outcomes = [outcome for settlement in settlements for outcome in settlement.outcomes]
    assert len(outcomes) == 1200
    assert sum(isinstance(outcome, CreatedRow) for outcome in outcomes) == 300
    assert await count_pins(database, workspace) == 300


INSERT_OUTCOME = text("""
    insert into publisher.row_outcomes (
        job_id, row_number, status, pin_id, promised_pin_id, payload_matches, existing_state,
        differing_fields
    )
    values (
        :job_id, :row_number, :status, :pin_id, :reserved, :payload_matches, :existing_state,
        :differing_fields
    )
""")


async def record_outcome(database: Database, row: RowAccepted, status: str, **fields: Any) -> None:
    """Records an outcome that Kafka has."""
    pin_id = compute_pin_id(row.workspace_id, row.row.idempotency_key)
    reserved = pin_id if status == "created" else None
    values = {
        "job_id": row.job_id,
        "row_number": row.row_number,
        "status": status,
        "pin_id": pin_id,
        **dict.fromkeys(("payload_matches", "existing_state", "differing_fields")),
        **fields,
    }
    async with database.transaction() as connection:
        await connection.execute(INSERT_OUTCOME, {**values, "reserved": reserved})


async def test_invariant_4_a_row_recorded_as_created_stays_created_without_its_board(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    row = build_row(workspace, board_id="gone")
    await record_outcome(database, row, "created")
    pin_id = compute_pin_id(workspace.id, row.row.idempotency_key)
    assert summarize((await settler.settle([row])).outcomes) == [("created", (pin_id, None))]


async def test_invariant_3_a_key_is_reserved_for_the_row_that_created_it(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    """The order of the rows does not matter, nor whether both are in the same batch."""
    creator, other = (
        build_row(workspace, idempotency_key="kept"),
        build_row(workspace, idempotency_key="kept"),
    )
    await record_outcome(database, creator, "created")
    pin_id = compute_pin_id(workspace.id, "kept")
    assert summarize((await settler.settle([other])).outcomes) == [
        ("recorded existing", (pin_id, None))
    ]
    together = summarize((await settler.settle([other, creator])).outcomes)
    assert sorted(together) == [("created", (pin_id, None)), ("existing", (pin_id, None))]


@pytest.mark.parametrize("is_scheduled", [False, True])
async def test_a_row_whose_key_is_reserved_reports_the_state_that_the_lost_pin_had(
    settler: Partition, workspace: Workspace, database: Database, is_scheduled: bool
) -> None:
    creator, other = (
        build_row(workspace, idempotency_key="kept"),
        replace(build_row(workspace, idempotency_key="kept"), line=9),
    )
    pin_id = compute_pin_id(workspace.id, "kept")
    schedule_id = derive_schedule_id(pin_id) if is_scheduled else None
    await record_outcome(database, creator, "created")
    if is_scheduled:
        async with database.transaction() as connection:
            statement = text(
                "update publisher.row_outcomes set pin_id = null, schedule_id = :schedule_id "
                "where job_id = :id"
            )
            values = {"id": creator.job_id, "schedule_id": schedule_id}
            await connection.execute(statement, values)
    (existing,) = await read_results(settler, other)
    assert (existing.status, existing.line) == ("existing", 9)
    assert existing.existing_state == ("scheduled" if is_scheduled else "published")
    assert (existing.payload_matches, existing.differing_fields) == (None, None)


async def test_two_rows_recorded_as_created_with_one_key_do_not_stop_the_batch(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    """This happens if an operator frees a key and its outcomes are then read again."""
    rows = [build_row(workspace, idempotency_key="twice") for _ in range(2)]
    for row in rows:
        await record_outcome(database, row, "created")
    pin_id = compute_pin_id(workspace.id, "twice")
    together = summarize((await settler.settle(rows)).outcomes)
    assert sorted(together) == [("created", (pin_id, None)), ("recorded created", (pin_id, None))]
    alone = [summarize((await settler.settle([row])).outcomes)[0] for row in rows]
    assert sorted(alone) == sorted(together)


async def test_invariant_4_a_row_recorded_as_existing_publishes_nothing(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    """The lost pin of its key may come from a direct call, which no import repeats."""
    row = build_row(workspace)
    await record_outcome(database, row, "existing")
    pin_id = compute_pin_id(workspace.id, row.row.idempotency_key)
    assert summarize((await settler.settle([row])).outcomes) == [
        ("recorded existing", (pin_id, None))
    ]
    query = text("select count(*) as pins from publisher.pins where pin_id = :pin_id").bindparams(
        pin_id=pin_id
    )
    assert await database.fetch_first(query) == {"pins": 0}


@pytest.mark.parametrize("names", [None, [], ["title", "run_at"]])
async def test_invariant_4_a_recorded_existing_row_reports_the_same_state_and_differences(
    settler: Partition,
    workspace: Workspace,
    database: Database,
    names: list[str] | None,
) -> None:
    row = replace(build_row(workspace, title="Sent now"), line=3)
    fields = (
        None
        if names is None
        else [FieldDifference(field=name, stored="a", sent=None) for name in names]
    )
    await record_outcome(
        database,
        row,
        "existing",
        payload_matches=names is None,
        existing_state="deleted",
        differing_fields=None if fields is None else encode(fields).decode(),
    )
    (result,) = await read_results(settler, row)
    assert (result.existing_state, result.line) == ("deleted", 3)
    assert result.payload_matches is (names is None)
    assert result.differing_fields == fields


async def test_invariant_4_an_outcome_of_an_earlier_version_is_reported_without_a_state(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    row = build_row(workspace)
    await record_outcome(database, row, "existing", payload_matches=True)
    (result,) = await read_results(settler, row)
    assert (result.payload_matches, result.existing_state) == (True, None)


async def test_a_row_that_became_unreadable_reports_its_recorded_outcome(
    settler: Partition, workspace: Workspace, database: Database
) -> None:
    row = build_row(workspace)
    await record_outcome(database, row, "created")
    unreadable = UnreadableRow(row.job_id, workspace.id, row.row_number)
    pin_id = compute_pin_id(workspace.id, row.row.idempotency_key)
    assert summarize((await settler.settle([], [unreadable])).outcomes) == [
        ("recorded created", (pin_id, None))
    ]
