"""Folds on the real Postgres: counters equal the results, however often records are delivered, and
in whatever order.
"""

import asyncio
import random
from typing import Any
from uuid import uuid4

import orjson
import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from services.status.fold_service import MAX_FOLD_WEIGHT
from services.status.folding import Foldable, group_by_job
from services.status.model import Missing
from services.status.repository import JobRepository
from shared.contract.errors import BrokerUnavailable, ValueRejected
from shared.contract.events import (
    ExistingState,
    ImportAccepted,
    ImportRejected,
    RowResult,
    RowsSettled,
    RowStatus,
)
from shared.http.pagination.list_query import EMPTY_PAGE
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from shared.postgres.row import Row
from shared.runtime.settings import DatabaseSettings
from tests.support.factories import (
    NOON,
    created_result,
    failed_result,
    import_accepted,
    rows_settled,
)
from tests.support.listing import list_imports


@pytest.fixture
def store(database: Database) -> JobRepository:
    return JobRepository(database)


async def fold_events(store: JobRepository, *events: Foldable) -> None:
    await store.fold(group_by_job(events), Advance(), moves=False)


async def find_row(store: JobRepository, job: ImportAccepted | ImportRejected) -> Row | None:
    row = await store.find_job(job.workspace_id, job.job_id)
    return None if isinstance(row, Missing) else row


async def read_job(store: JobRepository, job: ImportAccepted | ImportRejected) -> dict[str, Any]:
    row = await find_row(store, job)
    assert row is not None
    return {**row, "results": orjson.loads(row["results"])}


def counters(row: dict[str, Any]) -> tuple[str, int, int, int, int]:
    return (
        row["status"],
        row["total_rows"],
        row["created_rows"],
        row["existing_rows"],
        row["failed_rows"],
    )


async def test_a_job_without_outcomes_is_queued(store: JobRepository) -> None:
    job = import_accepted(total_rows=2)
    await fold_events(store, job)
    row = await read_job(store, job)
    assert counters(row) == ("queued", 2, 0, 0, 0)
    assert (row["started_at"], row["completed_at"], row["results"]) == (None, None, [])


async def test_a_job_with_some_outcomes_is_processing(store: JobRepository) -> None:
    job = import_accepted(total_rows=2)
    await fold_events(store, job, rows_settled(job, created_result(2)))
    row = await read_job(store, job)
    assert counters(row) == ("processing", 2, 1, 0, 0)
    assert row["started_at"] is not None
    assert row["completed_at"] is None


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ((created_result(1), created_result(2)), ("completed", 2, 2, 0, 0)),
        ((created_result(1), failed_result(2)), ("completed_with_errors", 2, 1, 0, 1)),
        ((failed_result(1), failed_result(2)), ("failed", 2, 0, 0, 2)),
    ],
)
async def test_invariant_5_a_job_ends_exactly_when_all_rows_have_settled(
    store: JobRepository, results: tuple[RowResult, ...], expected: tuple[object, ...]
) -> None:
    job = import_accepted(total_rows=2)
    await fold_events(store, job, rows_settled(job, *results))
    row = await read_job(store, job)
    assert counters(row) == expected
    assert row["completed_at"] is not None


async def test_invariant_5_a_redelivered_batch_changes_no_counter(store: JobRepository) -> None:
    job = import_accepted(total_rows=3)
    batch = (job, rows_settled(job, created_result(1), failed_result(2)))
    await fold_events(store, *batch)
    before = await read_job(store, job)
    await fold_events(store, *batch)
    assert await read_job(store, job) == before


async def test_error_counts_are_those_of_the_results(store: JobRepository) -> None:
    job = import_accepted(total_rows=4)
    no_board = failed_result(4, error_code="board_not_found")
    batches: list[list[Foldable]] = [
        [rows_settled(job, failed_result(1), created_result(2))],
        [job, rows_settled(job, failed_result(1), failed_result(3), no_board)],
    ]
    for batch in (*batches, *batches):
        await fold_events(store, *batch)
    row = await read_job(store, job)
    assert row["error_counts"] == {"validation_error": 2, "board_not_found": 1}
    assert sum(row["error_counts"].values()) == row["failed_rows"]


async def test_the_parent_of_a_job_is_that_of_its_first_import_event(
    store: JobRepository,
) -> None:
    job = import_accepted(total_rows=1, parent_id=uuid4())
    await fold_events(store, rows_settled(job, created_result(1)))
    await fold_events(store, job)
    await fold_events(store, replace(job, parent_id=uuid4()), job)
    assert (await read_job(store, job))["parent_id"] == job.parent_id


async def test_a_row_keeps_the_time_of_its_first_fold(store: JobRepository) -> None:
    job = import_accepted(total_rows=2)
    await fold_events(store, job, rows_settled(job, created_result(1)))
    first = await store.find_settled_at(job.job_id, 1)
    assert first is not None
    assert await store.find_settled_at(job.job_id, 2) is None
    await fold_events(store, job, rows_settled(job, failed_result(1), created_result(2)))
    second = await store.find_settled_at(job.job_id, 2)
    assert second is not None
    assert await store.find_settled_at(job.job_id, 1) == first < second


async def test_outcomes_before_their_import_are_stored_but_not_visible(
    store: JobRepository, database: Database
) -> None:
    job = import_accepted(total_rows=1)
    await fold_events(store, rows_settled(job, created_result(1)))
    assert await store.find_job(job.workspace_id, job.job_id) is Missing.UNKNOWN
    assert await list_imports(database, job.workspace_id) == EMPTY_PAGE
    await fold_events(store, job)
    assert counters(await read_job(store, job)) == ("completed", 1, 1, 0, 0)


async def test_invariant_4_the_first_fold_of_a_row_wins(store: JobRepository) -> None:
    job = import_accepted(total_rows=1)
    await fold_events(store, job, rows_settled(job, failed_result(1)))
    await fold_events(store, rows_settled(job, created_result(1)))
    assert counters(await read_job(store, job)) == ("failed", 1, 0, 0, 1)


async def test_rows_that_stay_unpublished_are_collected_from_all_folds(
    store: JobRepository,
) -> None:
    job = import_accepted(total_rows=500)

    def existing(number: int, state: ExistingState) -> RowResult:
        return RowResult(row_number=number, status=RowStatus.EXISTING, existing_state=state)

    await fold_events(store, rows_settled(job, existing(1, ExistingState.PUBLISHED)))
    await fold_events(store, job, rows_settled(job, existing(500, ExistingState.FAILED)))
    await fold_events(store, rows_settled(job, existing(500, ExistingState.PUBLISHED)))
    await fold_events(
        store,
        rows_settled(job, existing(1, ExistingState.DELETED), existing(7, ExistingState.CANCELED)),
    )
    row = await read_job(store, job)
    assert [number for number, bit in enumerate(row["not_published"]) if bit == "1"] == [7, 500]


async def test_results_are_returned_in_row_order_with_all_fields(store: JobRepository) -> None:
    job = import_accepted(total_rows=3)
    existing = RowResult(
        row_number=2,
        status=RowStatus.EXISTING,
        pin_id=uuid4(),
        idempotency_key="k",
        payload_matches=False,
    )
    await fold_events(
        store,
        rows_settled(job, failed_result(3)),
        rows_settled(job, existing),
        job,
        rows_settled(job, created_result(1)),
    )
    results = (await read_job(store, job))["results"]
    assert [(result["row_number"], result["status"]) for result in results] == [
        (1, "created"),
        (2, "existing"),
        (3, "failed"),
    ]
    assert results[1]["payload_matches"] is False
    assert results[2]["error_message"] == "title: is required"


async def test_late_results_are_sorted_into_row_order(store: JobRepository) -> None:
    job = import_accepted(total_rows=6)
    for rows in ((1, 3, 6), (2, 3, 4), (5, 6)):
        await fold_events(store, job, rows_settled(job, *map(created_result, rows)))
    row = await read_job(store, job)
    assert [result["row_number"] for result in row["results"]] == [1, 2, 3, 4, 5, 6]
    assert counters(row) == ("completed", 6, 6, 0, 0)


async def test_results_with_any_characters_are_stored(store: JobRepository) -> None:
    job = import_accepted(total_rows=1)
    result = replace(failed_result(1), error_message='a\0"b\\ lämp \U0001f4cc')
    await fold_events(store, job, rows_settled(job, result))
    assert (await read_job(store, job))["results"][0]["error_message"] == result.error_message


async def test_invariant_5_the_database_rejects_counters_that_differ_from_the_settled_rows(
    store: JobRepository, database: Database
) -> None:
    job = import_accepted(total_rows=3)
    await fold_events(store, job, rows_settled(job, created_result(2)))
    forged = text("update status.jobs set created_rows = 2 where job_id = :id").bindparams(
        id=job.job_id
    )
    with pytest.raises(IntegrityError, match="jobs_settled"):
        async with database.transaction() as connection:
            await connection.execute(forged)


async def test_a_rejected_request_is_a_failed_job_without_rows(store: JobRepository) -> None:
    rejected = ImportRejected(
        job_id=uuid4(),
        workspace_id=uuid4(),
        accepted_at=NOON,
        error_code="too_many_rows",
        error_message="501 rows",
        request_id="r",
    )
    await fold_events(store, rejected)
    row = await read_job(store, rejected)
    assert counters(row) == ("failed", 0, 0, 0, 0)
    assert (row["error_message"], row["completed_at"] is not None) == ("501 rows", True)


async def test_invariant_5_concurrent_folds_of_the_same_batches_count_once(
    store: JobRepository,
) -> None:
    jobs = [import_accepted(total_rows=50) for _ in range(8)]
    events: list[Foldable] = [
        *jobs,
        *(rows_settled(job, *(created_result(n) for n in range(1, 51))) for job in jobs),
    ]
    batches = [random.Random(seed).sample(events, len(events)) for seed in range(4)]
    await asyncio.gather(
        *(store.fold(group_by_job(batch), Advance(), moves=False) for batch in batches)
    )
    assert [counters(await read_job(store, job)) for job in jobs] == [
        ("completed", 50, 50, 0, 0)
    ] * 8


@pytest.mark.parametrize("seed", range(10))
async def test_invariant_5_batches_of_any_size_order_and_repetition_give_the_same_job(
    store: JobRepository, seed: int
) -> None:
    rng = random.Random(seed)
    job = import_accepted(total_rows=12)
    results = [rng.choice((created_result, failed_result))(number) for number in range(1, 13)]
    events: list[Foldable] = [
        job,
        *(
            RowsSettled(job_id=job.job_id, workspace_id=job.workspace_id, results=[result])
            for result in results
        ),
    ]
    stream = events * 3
    rng.shuffle(stream)
    last_processed = 0
    while stream:
        size = rng.randint(1, 5)
        await fold_events(store, *stream[:size])
        stream = stream[size:]
        row = await find_row(store, job)
        if row is not None:
            processed = row["created_rows"] + row["existing_rows"] + row["failed_rows"]
            assert processed == len(orjson.loads(row["results"]))
            assert processed >= last_processed
            assert (row["completed_at"] is not None) == (processed == 12)
            last_processed = processed
    failures = sum(result.status is RowStatus.FAILED for result in results)
    assert counters(await read_job(store, job))[2:] == (12 - failures, 0, failures)


async def test_a_fold_of_maximum_size_takes_less_than_half_the_timeout(
    store: JobRepository,
) -> None:
    jobs = [import_accepted(total_rows=500) for _ in range(MAX_FOLD_WEIGHT // 500)]
    settled = [
        rows_settled(
            job, *[created_result(row, idempotency_key=f"key-{row}") for row in range(1, 501)]
        )
        for job in jobs
    ]
    async with asyncio.timeout(DatabaseSettings().database_timeout_seconds / 2):
        await fold_events(store, *jobs, *settled)
    assert counters(await read_job(store, jobs[-1])) == ("completed", 500, 500, 0, 0)


async def test_a_slow_announcement_is_not_mistaken_for_a_silent_postgres(
    database: Database, store: JobRepository
) -> None:
    job = import_accepted(total_rows=1)
    await fold_events(store, job, rows_settled(job, created_result(1)))
    hasty = JobRepository(Database(database.engine, timeout_seconds=0.3))
    unannounced = hasty.lock_unannounced(10, extra_timeout_seconds=5)
    await unannounced.__aenter__()
    await asyncio.sleep(0.4)  # longer than the database's timeout
    silent = BrokerUnavailable("silent")
    assert not await unannounced.__aexit__(BrokerUnavailable, silent, None)


async def test_invariant_10_another_workspaces_outcome_neither_hides_nor_reveals_the_job(
    store: JobRepository,
) -> None:
    job, stranger = import_accepted(total_rows=1), uuid4()
    await fold_events(
        store, RowsSettled(job_id=job.job_id, workspace_id=stranger, results=[created_result(1)])
    )
    assert await store.find_job(stranger, job.job_id) is Missing.UNKNOWN
    await fold_events(store, job)
    assert counters(await read_job(store, job)) == ("completed", 1, 1, 0, 0)
    assert await store.find_job(stranger, job.job_id) is Missing.FOREIGN


@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_invariant_5_a_committed_job_stays_if_newer_rules_reject_its_request(
    store: JobRepository, *, in_one_batch: bool
) -> None:
    job = import_accepted(total_rows=1, source_filename="a.csv")
    rejected_later = ImportRejected(
        job_id=job.job_id,
        workspace_id=job.workspace_id,
        accepted_at=NOON,
        error_code="invalid_payload",
        error_message="stricter",
    )
    events = (job, rejected_later, rows_settled(job, created_result(1)))
    for batch in [events] if in_one_batch else [[event] for event in events]:
        await fold_events(store, *batch)
    row = await read_job(store, job)
    assert counters(row) == ("completed", 1, 1, 0, 0)
    assert (row["source_filename"], row["error_message"]) == ("a.csv", None)


async def test_invariant_8_results_of_more_rows_than_the_job_has_are_rejected(
    store: JobRepository,
) -> None:
    job = import_accepted(total_rows=1)
    await fold_events(store, job)
    with pytest.raises(ValueRejected):
        await fold_events(store, rows_settled(job, failed_result(1), failed_result(2)))
    await fold_events(store, rows_settled(job, created_result(1)))
    assert counters(await read_job(store, job)) == ("completed", 1, 1, 0, 0)
