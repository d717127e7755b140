"""Canceling an import with its schedules, and reading a row's timeline."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from services.publisher.imports.repository import ImportRepository
from services.publisher.imports.retention import CommandCleaner
from services.publisher.rows.cancellation import RecordPosition
from shared.contract.topics import TopicName, TopicNames
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client, read_error
from tests.integration.publisher.imports import (
    Import,
    later,
    name_left,
    name_undone,
    settle,
    wait_for_a_lock,
)

TOPIC = TopicNames("pinflow")[TopicName.IMPORTS]
CANCELED = text("""
    select partition, next_offset from publisher.canceled_jobs
    where job_id = :job order by partition
""")


async def never_restored(connected_at: float) -> None:
    """Accepts every connection to Postgres."""


@pytest.fixture
async def positions(client: Client) -> None:
    await client.execute(
        "insert into publisher.positions (topic, partition, next_offset, cluster_id) values "
        "(:topic, 0, 17, 'c'), (:topic, 1, 5, 'c') on conflict do nothing",
        topic=TOPIC,
    )


async def test_a_cancellation_needs_positions(client: Client, database: Database) -> None:
    """Without a position, a batch that is settled at the same time could not notice it."""
    await client.execute("delete from publisher.positions")
    job = Import(client, database, {})
    answer = await client.call_internally("imports/cancel", job.reference)
    assert read_error(answer) == (503, "service_unavailable")


async def test_a_cancellation_notes_what_has_settled_in_each_partition(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {})
    first = await job.command("cancel")
    assert (first["canceled_schedules"], first["left"]) == ([], [])
    await client.execute("update publisher.positions set next_offset = 30 where partition = 0")
    assert await job.command("cancel") == first
    rows = await database.fetch_all(CANCELED.bindparams(job=job.job_id))
    assert [(row["partition"], row["next_offset"]) for row in rows] == [(0, 17), (1, 5)]
    await client.execute("update publisher.positions set next_offset = 17 where partition = 0")


async def test_records_of_commands_are_deleted_when_no_row_can_be_delivered_again(
    client: Client, database: Database, positions: None
) -> None:
    old, recent = (Import(client, database, {}) for _ in range(2))
    for job in (old, recent):
        await job.settle()
        await job.command("cancel")
        await job.command("undo")
    for table, time in (("canceled_jobs", "canceled_at"), ("undos", "undone_at")):
        await client.execute(
            f"update publisher.{table} set {time} = now() - interval '46 days' where job_id = :job",
            job=old.job_id,
        )
    cleaner = CommandCleaner(ImportRepository(database, never_restored))
    assert await cleaner.delete_old_commands() == 3, "two partitions and one undo"
    assert await cleaner.delete_old_commands() == 0
    assert await database.fetch_all(CANCELED.bindparams(job=old.job_id)) == []
    assert len(await database.fetch_all(CANCELED.bindparams(job=recent.job_id))) == 2
    assert (await recent.command("undo"))["is_replay"] is True


async def test_a_cancellation_cancels_the_imports_schedules(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {}, *[{"run_at": later()} for _ in range(5)])
    results = await job.settle()
    _, waiting, edited, canceled, deleted, _ = (
        f"/v1/schedules/{result.schedule_id}" for result in results
    )
    await client.patch(edited, {"title": "Mine"})
    await client.post(f"{canceled}/cancel")
    await client.delete(deleted)
    await client.make_due({"id": str(results[5].schedule_id)})
    await client.publish_due()
    assert (await job.command("cancel"))["canceled_schedules"] == []
    answer = await job.command("cancel", cancel_schedules=True)
    assert answer["canceled_schedules"] == [
        {"row_number": 2, "schedule_id": str(results[1].schedule_id)}
    ]
    assert name_left(answer) == [
        (3, "changed"),
        (4, "canceled"),
        (5, "deleted"),
        (6, "published"),
    ]
    assert (await client.get(waiting)).json()["status"] == "canceled"
    rows = [await read_row(job, number) for number in range(1, 7)]
    assert [row["pin"]["state"] for row in rows] == [
        "published",
        "canceled",
        "scheduled",
        "canceled",
        "deleted",
        "published",
    ]
    assert (await client.get(edited)).json()["status"] == "scheduled"
    assert await job.command("cancel", cancel_schedules=True) == answer


async def test_a_repeated_cancellation_leaves_a_schedule_that_was_retried_since(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {"run_at": later()})
    (result,) = await job.settle()
    await job.command("cancel", cancel_schedules=True)
    path = f"/v1/schedules/{result.schedule_id}"
    assert (await client.post(f"{path}/retry")).status_code == 200
    answer = await job.command("cancel", cancel_schedules=True)
    assert (answer["canceled_schedules"], name_left(answer)) == ([], [(1, "changed")])
    assert (await client.get(path)).json()["status"] == "scheduled"


async def test_an_undo_deletes_schedules_that_were_canceled_with_their_import(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {"run_at": later()})
    await job.settle()
    await job.command("cancel", cancel_schedules=True)
    assert name_undone(await job.undo()) == [(1, "deleted")]


async def test_a_cancellation_leaves_schedules_of_accounts_that_the_key_does_not_permit(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {"run_at": later()})
    await job.settle()
    answer = await job.command("cancel", cancel_schedules=True, account_ids=[])
    assert name_left(answer) == [(1, "account_not_permitted")]


async def test_rows_that_have_not_settled_fail_and_settled_rows_keep_their_outcome(
    client: Client, database: Database, positions: None
) -> None:
    """A row before the noted position was settled before. It may be redelivered afterwards."""
    job = Import(client, database, {}, {}, {})
    first = await settle(client, database, job.rows[:1])
    await job.command("cancel")
    offsets = {id(row): RecordPosition(0, 16 + number) for number, row in enumerate(job.rows)}
    results = await settle(client, database, job.rows, locate=lambda: offsets)
    assert results[:1] == first
    assert [(result.status, result.error_code) for result in results[1:]] == [
        ("failed", "canceled"),
        ("failed", "canceled"),
    ]
    assert await settle(client, database, job.rows, locate=lambda: offsets) == results


async def test_a_cancellation_waits_for_a_batch_that_is_being_settled(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {"run_at": later()})
    async with database.transaction() as connection:
        lock = text("select from publisher.positions where topic = :topic for update")
        await connection.execute(lock, {"topic": TOPIC})
        canceling = asyncio.create_task(job.command("cancel", cancel_schedules=True))
        await wait_for_a_lock(database)
        (result,) = await job.settle()
    answer = await canceling
    assert answer["canceled_schedules"] == [
        {"row_number": 1, "schedule_id": str(result.schedule_id)}
    ]


async def test_batches_of_other_imports_do_not_wait_while_a_cancellation_waits_for_a_schedule(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {"run_at": later()})
    await job.settle()
    async with database.transaction() as connection:
        lock = text("select from publisher.pins where origin_job_id = :job for update")
        await connection.execute(lock, {"job": job.job_id})
        canceling = asyncio.create_task(job.command("cancel", cancel_schedules=True))
        await wait_for_a_lock(database)
        free = text(
            "select from publisher.positions where topic = :topic for update skip locked"
        ).bindparams(topic=TOPIC)
        assert len(await database.fetch_all(free)) == 2
    assert len((await canceling)["canceled_schedules"]) == 1


async def read_row(job: Import, row_number: int) -> dict[str, Any]:
    return await job.command("row", row_number=row_number)


async def test_a_rows_timeline_has_its_pin_its_outcome_and_the_cancellation(
    client: Client, database: Database, positions: None
) -> None:
    job = Import(client, database, {}, {"run_at": later()}, {"board_id": "gone"})
    nothing: dict[str, Any] = {"outcome": None, "pin": None, "canceled_at": None, "attempts": []}
    assert await read_row(job, 1) == nothing
    published, scheduled, _ = await job.settle()
    row = await read_row(job, 1)
    assert (row["pin"]["pin_id"], row["pin"]["state"]) == (str(published.pin_id), "published")
    assert row["pin"]["published_at"] is not None
    row = await read_row(job, 2)
    assert row["pin"]["schedule_id"] == str(scheduled.schedule_id)
    row = await read_row(job, 3)
    assert (row["outcome"]["error_code"], row["pin"]) == ("board_not_found", None)
    canceled = await job.command("cancel")
    await job.undo()
    row = await read_row(job, 1)
    assert row["canceled_at"] == canceled["canceled_at"]
    assert row["outcome"]["status"] == "created"
    assert row["pin"]["deleted_at"] is not None
    assert row["pin"]["state"] == "deleted"
