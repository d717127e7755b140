"""An undo in races with edits, the scheduler, another undo, and takers of the freed keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from services.publisher.ids import compute_generation_id, compute_pin_id
from services.publisher.scheduler_repository import DuePinRepository
from shared.contract.events import OnExisting
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client
from tests.integration.publisher.imports import (
    Import,
    later,
    name_left,
    name_undone,
    wait_for_a_lock,
)

JOBS = 12
LIVE = text("""
    select count(*) as count from publisher.pins
    where workspace_id = :id and idempotency_key = :key and deleted_at is null
""")


@asynccontextmanager
async def locked(database: Database, pin_id: UUID) -> AsyncIterator[None]:
    """Holds the lock of a pin, like a transaction that is about to change it."""
    async with database.transaction() as connection:
        lock = text("select from publisher.pins where pin_id = :id for update")
        await connection.execute(lock, {"id": pin_id})
        yield


async def count_live(client: Client, database: Database, key: str) -> int:
    rows = await database.fetch_all(LIVE.bindparams(id=client.workspace.id, key=key))
    return int(rows[0]["count"])


async def test_an_undo_waits_for_an_edit_and_leaves_the_pin(
    client: Client, database: Database
) -> None:
    job = Import(client, database, {"run_at": later()}, {})
    results = await job.settle()
    pin_id = compute_pin_id(client.workspace.id, job.rows[0].row.idempotency_key)
    async with locked(database, pin_id):
        path = f"/v1/schedules/{results[0].schedule_id}"
        edit = asyncio.create_task(client.patch(path, {"title": "Mine"}))
        await wait_for_a_lock(database)
        undo = asyncio.create_task(job.undo())
        await wait_for_a_lock(database, 2)
    assert (await edit).status_code == 200
    answer = await undo
    assert (name_undone(answer), name_left(answer)) == ([(2, "deleted")], [(1, "changed")])


async def test_an_undo_waits_for_the_scheduler_and_deletes_the_published_pin(
    client: Client, database: Database
) -> None:
    job = Import(client, database, {"run_at": later()})
    (result,) = await job.settle()
    await client.make_due({"id": str(result.schedule_id)})
    async with DuePinRepository(database).lock_due(10) as batch:
        undo = asyncio.create_task(job.undo())
        await wait_for_a_lock(database)
        await batch.publish(failures={})
    answer = await undo
    assert name_undone(answer) == [(1, "deleted")]
    assert answer["undone"][0]["pin_id"] is not None


async def test_each_pin_is_either_edited_or_undone(client: Client, database: Database) -> None:
    for _ in range(4):
        job = Import(client, database, *[{"run_at": later()} for _ in range(JOBS)])
        paths = [f"/v1/schedules/{result.schedule_id}" for result in await job.settle()]
        answer, *edits = await asyncio.gather(
            job.undo(), *(client.patch(path, {"title": "Mine"}) for path in paths)
        )
        undone = {number for number, _ in name_undone(answer)}
        left = {number for number, reason in name_left(answer) if reason == "changed"}
        assert {edit.status_code for edit in edits} <= {200, 404}
        edited = {number for number, edit in enumerate(edits, 1) if edit.status_code == 200}
        assert (undone | left, undone & left) == (set(range(1, JOBS + 1)), set())
        assert edited == left


async def test_each_pin_is_published_or_canceled_but_never_both(
    client: Client, database: Database
) -> None:
    job = Import(client, database, *[{"run_at": later()} for _ in range(40)])
    results = await job.settle()
    await client.execute(
        "update publisher.pins set run_at = now() - interval '1 second' where origin_job_id = :id",
        id=job.job_id,
    )

    async def publish_in_steps() -> None:
        repository = DuePinRepository(database)
        while True:
            async with repository.lock_due(3) as batch:
                if not batch.pins:
                    return
                await batch.publish(failures={})

    answer, *_ = await asyncio.gather(job.undo(), publish_in_steps(), publish_in_steps())
    assert len(answer["undone"]) == len(results)
    for item, row in zip(answer["undone"], job.rows, strict=True):
        events = await client.events(compute_pin_id(client.workspace.id, row.row.idempotency_key))
        assert item["action"] == ("deleted" if events == ["published"] else "canceled")
        assert (item["pin_id"] is not None) == (item["action"] == "deleted")


async def test_two_undos_at_once_give_one_record(client: Client, database: Database) -> None:
    for rows in (0, 1, 8):
        job = Import(client, database, *[{} for _ in range(rows)])
        if rows:
            await job.settle()
        answers = await asyncio.gather(*(job.undo() for _ in range(4)))
        assert sorted(answer.pop("is_replay") for answer in answers) == [False, True, True, True]
        assert answers == [answers[0]] * 4
        assert len(answers[0]["undone"]) == rows


async def test_a_freed_key_has_one_taker(client: Client, database: Database) -> None:
    """Two direct calls, a schedule and a batch want the key of a pin that is being undone."""
    for _ in range(JOBS):
        key = f"key-{uuid4()}"
        job = Import(client, database, {"idempotency_key": key})
        await job.settle()
        body = client.pin(idempotency_key=key)
        undo, *answers = await asyncio.gather(
            job.undo(),
            client.post("/v1/pins", body),
            client.post("/v1/pins", body),
            client.post("/v1/schedules", client.schedule(idempotency_key=key)),
            client.post("/v1/pins/batch", {"pins": [body, client.pin()]}),
        )
        assert name_undone(undo) == [(1, "deleted")]
        assert {answer.status_code for answer in answers} <= {200, 201, 409, 422}
        created = [is_created(answer, key, client) for answer in answers]
        assert sum(created) == await count_live(client, database, key) <= 1
        # Afterwards the key has exactly one pin
        await client.post("/v1/pins", body)
        assert await count_live(client, database, key) == 1
        later_ids = text(
            "select pin_id from publisher.pins where workspace_id = :id and idempotency_key = :key"
        )
        found = await database.fetch_all(later_ids.bindparams(id=client.workspace.id, key=key))
        expected = {compute_generation_id(client.workspace.id, key, n) for n in (0, 1)}
        assert {row["pin_id"] for row in found} == expected


def is_created(answer: Any, key: str, client: Client) -> bool:
    """Returns whether the call created the key's pin of the second generation."""
    if answer.status_code not in {200, 201}:
        return False
    body = answer.json()
    if answer.status_code == 200:
        return bool(body["results"][0]["status"] == "created")
    is_first = body["id"] == str(compute_pin_id(client.workspace.id, key))
    return not is_first and "Idempotent-Replayed" not in answer.headers


async def test_a_freed_key_goes_to_an_import_or_to_a_direct_call(
    client: Client, database: Database
) -> None:
    for _ in range(JOBS):
        keys = [f"key-{uuid4()}" for _ in range(5)]
        job = Import(client, database, *[{"idempotency_key": key} for key in keys])
        await job.settle()
        await job.undo()
        taker = Import(client, database, *[{"idempotency_key": key} for key in keys])
        results, batch = await asyncio.gather(
            taker.settle(),
            client.post(
                "/v1/pins/batch",
                {"pins": [client.pin(idempotency_key=key) for key in reversed(keys)]},
            ),
        )
        items = list(reversed(batch.json()["results"]))
        for result, item, key in zip(results, items, keys, strict=True):
            next_id = compute_generation_id(client.workspace.id, key, 1)
            assert {str(result.status), item["status"]} == {"created", "existing"}
            assert (result.pin_id, item["pin"]["id"]) == (next_id, str(next_id))
            assert await count_live(client, database, key) == 1


async def test_a_row_that_was_accepted_before_an_undo_never_takes_the_key(
    client: Client, database: Database
) -> None:
    """The result stays `existing`, although it is delivered again after the undo."""
    key = f"key-{uuid4()}"
    job = Import(client, database, {"idempotency_key": key})
    await job.settle()
    other = Import(client, database, {"idempotency_key": key})
    (before,) = await other.settle()
    await job.undo()
    (after,) = await other.settle()
    assert (before.status, after.status, after.existing_state) == (
        "existing",
        "existing",
        "deleted",
    )
    assert after.pin_id == before.pin_id
    assert await count_live(client, database, key) == 0


async def test_a_row_that_waits_behind_an_undo_counts_as_earlier(
    client: Client, database: Database
) -> None:
    """The key's release is later than every import that was accepted while the undo waited."""
    key = f"key-{uuid4()}"
    job = Import(client, database, {"idempotency_key": key})
    await job.settle()
    async with locked(database, compute_pin_id(client.workspace.id, key)):
        undo = asyncio.create_task(job.undo())
        await wait_for_a_lock(database)
        other = Import(client, database, {"idempotency_key": key})
        (before,) = await other.settle()
    await undo
    (after,) = await other.settle()
    assert (before.status, after.status) == ("existing", "existing")


async def test_commands_on_many_keys_never_deadlock(client: Client, database: Database) -> None:
    """Undos, revivals, batches and deletions lock the same keys of several generations."""
    keys = [f"key-{number}-{uuid4()}" for number in range(10)]
    jobs = []
    for part in (keys[::2], keys[1::3], keys[::-1]):
        revive = {"on_existing": OnExisting.REVIVE}
        job = Import(client, database, *[{"idempotency_key": key, **revive} for key in part])
        await job.settle()
        jobs.append(job)
        await (job.undo() if len(jobs) < 3 else job.undo(dry_run=True))
    for _ in range(JOBS):
        new = [*keys, f"new-{uuid4()}"]
        items = [{"idempotency_key": key, "on_existing": OnExisting.REVIVE} for key in new]
        reviving = Import(client, database, *reversed(items))
        ids = [row.pin_id for row in await jobs[-1].settle() if row.pin_id]
        _, _, batch, deletion, _ = await asyncio.gather(
            jobs[-1].undo(),
            reviving.settle(),
            client.post(
                "/v1/pins/batch", {"pins": [client.pin(idempotency_key=key) for key in new]}
            ),
            client.post("/v1/pins/bulk-delete", {"ids": [str(pin_id) for pin_id in ids]}),
            jobs[-1].undo(),
        )
        assert (batch.status_code, deletion.status_code) == (200, 200)
        jobs.append(reviving)
        for key in new:
            assert await count_live(client, database, key) <= 1
