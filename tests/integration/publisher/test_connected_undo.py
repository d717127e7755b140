"""Undoing and canceling imports whose pins are delivered to Pinterest (ADR 0049)."""

from typing import Any
from uuid import UUID

import pytest_asyncio
from sqlalchemy import text

from shared.contract.events import OnExisting
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client
from tests.integration.publisher.connected import ConnectedClient
from tests.integration.publisher.imports import Import, later, name_left, name_undone


@pytest_asyncio.fixture(loop_scope="module")
async def connected(client: Client, database: Database) -> ConnectedClient:
    return await ConnectedClient.connect(client, database)


async def read_pin(database: Database, pin_id: UUID | None) -> dict[str, Any]:
    query = text("select * from publisher.pins where pin_id = :id").bindparams(id=pin_id)
    row = await database.fetch_first(query)
    assert row is not None
    return dict(row)


async def read_removals(database: Database, workspace_id: UUID) -> dict[UUID, bool]:
    query = text("select pin_id, release_key from publisher.removals where workspace_id = :id")
    rows = await database.fetch_all(query.bindparams(id=workspace_id))
    return {row["pin_id"]: row["release_key"] for row in rows}


async def test_an_undo_removes_what_is_on_pinterest_before_it_releases_the_keys(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, *({} for _ in range(6)), {"run_at": later()})
    results = await job.settle()
    pin_ids = [result.pin_id for result in results]
    for number in (0, 1):
        await connected.set_published(pin_ids[number], f"at-{pin_ids[number]}")
    await connected.set_state(pin_ids[2], "confirming")
    await connected.fail(pin_ids[3], "publish_unconfirmed")
    await connected.fail(pin_ids[4])
    plan = await job.undo(dry_run=True)
    assert await read_removals(database, client.workspace.id) == {}
    done = await job.undo()
    assert (done["undone"], done["left"]) == (plan["undone"], plan["left"])
    assert name_undone(done) == [
        (1, "removing"),
        (2, "removing"),
        (5, "deleted"),
        (6, "deleted"),
        (7, "canceled"),
    ]
    assert name_left(done) == [(3, "publishing"), (4, "unconfirmed")]
    removals = await read_removals(database, client.workspace.id)
    assert removals == {pin_ids[0]: True, pin_ids[1]: True}
    # The key stays taken, and the pin is shown, until it is removed
    shown = await client.get(f"/v1/pins/{pin_ids[0]}")
    assert (shown.status_code, shown.json()["status"]) == (200, "published")
    queued = await read_pin(database, pin_ids[5])
    assert None not in (queued["deleted_at"], queued["released_at"])


async def test_a_repeated_undo_shows_the_progress_of_removals(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, {}, {}, {})
    pin_ids = [result.pin_id for result in await job.settle()]
    for pin_id in pin_ids:
        await connected.set_published(pin_id, f"at-{pin_id}")
    first = await job.undo()
    await connected.settle_removal(pin_ids[0])
    await connected.settle_removal(pin_ids[1], "refused", "Pinterest refused.")
    again = await job.undo()
    assert name_undone(again) == [(1, "removed"), (3, "removing")]
    assert name_left(again) == [(2, "refused")]
    assert (again["is_replay"], again["undo_id"]) == (True, first["undo_id"])
    assert name_undone(await job.undo(dry_run=True)) == name_undone(again)
    request = {"workspace_id": str(client.workspace.id), "job_ids": [str(job.job_id)]}
    (undo,) = (await client.call_internally("imports/undos", request)).json()["undos"]
    assert (undo["undone_rows"], undo["removing_rows"], undo["left_rows"]) == (2, 1, 1)


async def test_a_later_undo_reaches_a_pin_that_was_being_sent(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, {})
    (result,) = await job.settle()
    await connected.set_state(result.pin_id, "publishing")
    assert name_left(await job.undo()) == [(1, "publishing")]
    again = await job.undo()
    assert (name_left(again), again["is_replay"]) == ([(1, "publishing")], True)
    await connected.set_published(result.pin_id, f"at-{result.pin_id}")
    after = await job.undo()
    assert (name_undone(after), after["left"]) == ([(1, "removing")], [])
    assert await read_removals(database, client.workspace.id) == {result.pin_id: True}


async def test_an_undo_releases_the_key_of_a_pin_whose_removal_was_requested_before(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, {})
    (result,) = await job.settle()
    await connected.set_published(result.pin_id, f"at-{result.pin_id}")
    await job.undo()
    await connected.settle_removal(result.pin_id, "refused", "Pinterest refused.")
    # A person deletes it then: the refused removal is tried again, and still releases the key
    await client.execute(
        "update access.connections set disconnected_at = now() where account_id = :id",
        id=connected.account_id,
    )
    await client.delete(f"/v1/pins/{result.pin_id}?delete_from_pinterest=true")
    assert await read_removals(database, client.workspace.id) == {result.pin_id: True}
    assert name_undone(await job.undo()) == [(1, "removing")]


async def test_a_cancellation_cancels_queued_schedules_and_leaves_those_being_sent(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, *({"run_at": later()} for _ in range(3)))
    results = await job.settle()
    query = text("select pin_id, origin_row from publisher.pins where origin_job_id = :id")
    rows = await database.fetch_all(query.bindparams(id=job.job_id))
    by_row = {row["origin_row"]: row["pin_id"] for row in rows}
    await connected.set_state(by_row[2], "queued")
    await connected.set_state(by_row[3], "confirming")
    await client.execute(
        "insert into publisher.positions (topic, partition, next_offset, cluster_id) "
        "values (:topic, 0, 0, 'cluster') "
        "on conflict do nothing",
        topic="pinflow.imports.v2",
    )
    answer = await job.command("cancel", cancel_schedules=True)
    canceled = {item["schedule_id"] for item in answer["canceled_schedules"]}
    assert canceled == {str(result.schedule_id) for result in results[:2]}
    assert name_left(answer) == [(3, "publishing")]
    assert (await read_pin(database, by_row[2]))["state"] == "cancelled"


async def test_a_cancellation_withdraws_queued_pins_and_leaves_what_is_being_sent_or_on_pinterest(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, *({} for _ in range(6)))
    waiting, edited, deleted, publishing, published, failed = [
        result.pin_id for result in await job.settle()
    ]
    await client.patch(f"/v1/pins/{edited}", {"title": "Mine"})
    await client.delete(f"/v1/pins/{deleted}")
    await connected.set_state(publishing, "publishing")
    await connected.set_published(published, f"at-{published}")
    await connected.fail(failed)
    await client.execute(
        "insert into publisher.positions (topic, partition, next_offset, cluster_id) "
        "values ('pinflow.imports.v2', 0, 0, 'cluster') on conflict do nothing"
    )
    assert (await job.command("cancel"))["withdrawn_pins"] == [], "only if asked"
    answer = await job.command("cancel", cancel_schedules=True)
    assert answer["withdrawn_pins"] == [{"row_number": 1, "pin_id": str(waiting)}]
    assert answer["canceled_schedules"] == []
    assert name_left(answer) == [(2, "changed"), (3, "deleted"), (4, "publishing")]
    assert [item["pin_id"] for item in answer["left"]] == [
        str(pin_id) for pin_id in (edited, deleted, publishing)
    ]
    statuses = [
        (await client.get(f"/v1/pins/{pin_id}")).status_code for pin_id in (waiting, edited, failed)
    ]
    assert statuses == [404, 200, 200]
    row = await read_pin(database, waiting)
    assert row["deleted_at"] is not None
    assert (row["touched_at"], row["released_at"]) == (None, None), "the key stays taken"
    assert (await read_pin(database, published))["deleted_at"] is None
    assert await job.command("cancel", cancel_schedules=True) == answer
    other_key = await job.command("cancel", cancel_schedules=True, account_ids=[])
    assert (1, "account_not_permitted") in name_left(other_key)
    key = job.rows[0].row.idempotency_key
    revival = Import(client, database, {"idempotency_key": key, "on_existing": OnExisting.REVIVE})
    (revived,) = await revival.settle()
    assert revived.status == "created", "what was withdrawn can be published after all"


async def test_a_row_shows_the_attempts_to_create_its_pin(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, {})
    (result,) = await job.settle()
    await connected.attempt(str(result.pin_id))
    row = await job.command("row", row_number=1)
    assert (row["pin"]["state"], row["pin"]["delivery"]) == ("queued", "pinterest")
    assert [(item["number"], item["outcome"]) for item in row["attempts"]] == [(1, None)]
