"""Undoing an import: what it deletes, what it leaves, and what becomes of the keys."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.publisher.ids import compute_generation_id, compute_pin_id
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.database import Database
from tests.integration.conftest import make_workspace
from tests.integration.publisher.conftest import Client, find_pin_id, read_error
from tests.integration.publisher.imports import Import, find_ids, later, name_left, name_undone
from tests.support.factories import BOARD


@pytest.fixture
def keys() -> list[str]:
    return [f"key-{uuid4()}" for _ in range(6)]


async def read_pin(database: Database, pin_id: UUID) -> dict[str, Any]:
    query = text("select * from publisher.pins where pin_id = :id").bindparams(id=pin_id)
    row = await database.fetch_first(query)
    assert row is not None
    return dict(row)


async def test_an_undo_deletes_pins_and_cancels_schedules_and_releases_their_keys(
    client: Client, database: Database, keys: list[str]
) -> None:
    job = Import(
        client,
        database,
        {"idempotency_key": keys[0]},
        {"idempotency_key": keys[1], "run_at": later()},
    )
    await job.settle()
    answer = await job.undo()
    pin_id, waiting_id = (compute_pin_id(client.workspace.id, key) for key in keys[:2])
    schedule_id = derive_schedule_id(waiting_id)
    assert answer["undone"] == [
        {"row_number": 1, "pin_id": str(pin_id), "schedule_id": None, "action": "deleted"},
        {"row_number": 2, "pin_id": None, "schedule_id": str(schedule_id), "action": "canceled"},
    ]
    assert (answer["left"], answer["is_replay"]) == ([], False)
    assert (await client.get(f"/v1/pins/{pin_id}")).status_code == 404
    assert (await client.get(f"/v1/schedules/{schedule_id}")).status_code == 404
    for stored in [await read_pin(database, item) for item in (pin_id, waiting_id)]:
        assert None not in (stored["deleted_at"], stored["released_at"])
        assert stored["current_pin_id"] is None
    assert (await read_pin(database, waiting_id))["state"] == "cancelled"


async def test_a_second_undo_answers_the_record_of_the_first(
    client: Client, database: Database
) -> None:
    job = Import(client, database, {}, {})
    await job.settle()
    first = await job.undo()
    assert await job.undo() == {**first, "is_replay": True}
    assert await job.undo(dry_run=True) == {**first, "is_replay": True}


async def test_a_dry_run_says_what_an_undo_would_do_and_writes_nothing(
    client: Client, database: Database, keys: list[str]
) -> None:
    job = Import(client, database, {"idempotency_key": keys[0]}, {"run_at": later()})
    results = await job.settle()
    plan = await job.undo(dry_run=True)
    assert (plan["undo_id"], plan["undone_at"], plan["is_replay"]) == (None, None, False)
    assert name_undone(plan) == [(1, "deleted"), (2, "canceled")]
    assert (await client.get(f"/v1/pins/{results[0].pin_id}")).status_code == 200
    done = await job.undo()
    assert (done["undone"], done["left"]) == (plan["undone"], plan["left"])


async def test_an_undo_leaves_what_a_person_has_touched(client: Client, database: Database) -> None:
    job = Import(client, database, *[{"run_at": later()} for _ in range(4)], {})
    *schedules, published = await job.settle()
    edited, canceled, deleted, retried = (
        f"/v1/schedules/{result.schedule_id}" for result in schedules
    )
    assert (await client.patch(edited, {"title": "Mine"})).status_code == 200
    assert (await client.post(f"{canceled}/cancel")).status_code == 200
    assert (await client.delete(deleted)).status_code == 204
    assert (await client.post(f"{retried}/cancel")).status_code == 200
    assert (await client.post(f"{retried}/retry")).status_code == 200
    assert (await client.delete(f"/v1/pins/{published.pin_id}")).status_code == 204
    answer = await job.undo()
    assert answer["undone"] == []
    assert name_left(answer) == [
        (1, "changed"),
        (2, "canceled"),
        (3, "deleted"),
        (4, "changed"),
        (5, "deleted"),
    ]
    assert (await client.get(edited)).json()["payload"]["title"] == "Mine"


@pytest.mark.parametrize("command", ["bulk-cancel", "bulk-delete"])
async def test_bulk_commands_touch_each_schedule(
    client: Client, database: Database, command: str
) -> None:
    job = Import(client, database, *[{"run_at": later()} for _ in range(2)])
    ids = [str(result.schedule_id) for result in await job.settle()]
    assert (await client.post(f"/v1/schedules/{command}", {"ids": ids})).status_code == 200
    reason = command.removeprefix("bulk-") + ("ed" if command == "bulk-cancel" else "d")
    assert name_left(await job.undo()) == [(1, reason), (2, reason)]


async def test_the_scheduler_does_not_touch_a_pin(client: Client, database: Database) -> None:
    job = Import(client, database, {"run_at": later()})
    (result,) = await job.settle()
    await client.make_due({"id": str(result.schedule_id)})
    await client.publish_due()
    answer = await job.undo()
    assert name_undone(answer) == [(1, "deleted")]
    assert answer["undone"][0]["pin_id"] is not None


async def test_an_undo_deletes_failed_pins(client: Client, database: Database) -> None:
    board = f"gone-{uuid4()}"
    workspace = client.workspace
    await workspace.operator.add_board(workspace.id, workspace.account_id, board, name="Going")
    job = Import(client, database, {"run_at": later(), "board_id": board})
    (result,) = await job.settle()
    await client.make_due({"id": str(result.schedule_id)})
    await client.execute("delete from access.boards where board_id = :id", id=board)
    await client.publish_due()
    assert name_undone(await job.undo()) == [(1, "deleted")]


async def test_an_undo_leaves_pins_of_accounts_that_the_key_does_not_permit(
    client: Client, database: Database
) -> None:
    other = await client.workspace.add_account(BOARD)
    job = Import(client, database, {}, {"account_id": str(other)})
    await job.settle()
    answer = await job.undo(account_ids=[str(client.workspace.account_id)])
    assert name_undone(answer) == [(1, "deleted")]
    assert name_left(answer) == [(2, "account_not_permitted")]


async def test_another_key_undoes_what_the_first_was_not_permitted_to(
    client: Client, database: Database
) -> None:
    other = await client.workspace.add_account(BOARD)
    job = Import(client, database, {}, {"account_id": str(other)}, {"account_id": str(other)})
    results = await job.settle()
    await client.delete(f"/v1/pins/{results[2].pin_id}")
    own = [str(client.workspace.account_id)]
    first = await job.undo(account_ids=own)
    assert await job.undo(account_ids=own) == {**first, "is_replay": True}
    plan = await job.undo(dry_run=True)
    assert name_undone(plan) == [(1, "deleted"), (2, "deleted")]
    second, third = await asyncio.gather(job.undo(), job.undo())
    assert {second.pop("is_replay"), third.pop("is_replay")} == {False, True}
    assert second == third == {**second, "undo_id": first["undo_id"]}
    assert (second["undone"], second["left"]) == (plan["undone"], plan["left"])
    assert name_left(second) == [(3, "deleted")]
    assert (await client.get(f"/v1/pins/{results[1].pin_id}")).status_code == 404


async def test_an_undo_concerns_only_what_its_own_import_created(
    client: Client, database: Database, keys: list[str]
) -> None:
    before = Import(client, database, {"idempotency_key": keys[0]})
    await before.settle()
    job = Import(client, database, {"idempotency_key": keys[0]}, {"idempotency_key": keys[1]})
    await job.settle()
    other = Import(client, database, {"idempotency_key": keys[2]})
    await other.settle()
    assert name_undone(await job.undo()) == [(2, "deleted")]
    assert name_undone(await before.undo()) == [(1, "deleted")]


async def test_an_undo_in_another_workspace_finds_nothing(
    client: Client, database: Database
) -> None:
    job = Import(client, database, {})
    (result,) = await job.settle()
    other = await make_workspace(database)
    answer = await job.command("undo", workspace_id=str(other.id))
    assert (answer["undone"], answer["left"]) == ([], [])
    assert (await client.get(f"/v1/pins/{result.pin_id}")).status_code == 200


async def test_invariant_4_a_row_that_was_undone_reports_the_same_again(
    client: Client, database: Database
) -> None:
    job = Import(client, database, {}, {"run_at": later()})
    first = await job.settle()
    await job.undo()
    assert await job.settle() == first
    assert name_left(await job.undo()) == []


async def test_a_direct_call_takes_a_released_key(
    client: Client, database: Database, keys: list[str]
) -> None:
    job = Import(client, database, {"idempotency_key": keys[0]})
    first = await job.settle()
    await job.undo()
    pin = await client.publish_pin(idempotency_key=keys[0])
    next_id = compute_generation_id(client.workspace.id, keys[0], 1)
    assert pin["id"] == str(next_id)
    assert await client.events(next_id) == ["published"]
    repeated = await client.post("/v1/pins", client.pin(idempotency_key=keys[0]))
    assert repeated.json()["id"] == str(next_id)
    assert repeated.headers["Idempotent-Replayed"] == "true"
    assert (await client.get(f"/v1/pins/{next_id}")).status_code == 200
    assert await job.settle() == first
    old = f"/v1/pins/{find_ids(first[0])[0]}"
    assert (await client.get(old)).status_code == 404
    assert (await client.patch(old, {"title": "Old"})).status_code == 404
    assert (await client.delete(old)).status_code == 404


async def test_a_schedule_takes_a_released_key(
    client: Client, database: Database, keys: list[str]
) -> None:
    job = Import(client, database, {"idempotency_key": keys[0]})
    await job.settle()
    await job.undo()
    schedule = await client.create_schedule(idempotency_key=keys[0])
    assert find_pin_id(schedule) == compute_generation_id(client.workspace.id, keys[0], 1)
    conflict = await client.post("/v1/pins", client.pin(idempotency_key=keys[0]))
    assert read_error(conflict) == (409, "already_scheduled")
    assert conflict.json()["detail"]["schedule_id"] == schedule["id"]


async def test_a_batch_takes_released_keys_and_new_ones(
    client: Client, database: Database, keys: list[str]
) -> None:
    job = Import(client, database, *[{"idempotency_key": key} for key in keys[:3]])
    await job.settle()
    await job.undo()
    taken = await client.publish_pin(idempotency_key=keys[2])
    items = [client.pin(idempotency_key=key) for key in (*keys[:4], keys[0])]
    refused = client.pin(idempotency_key=keys[4], board_id="gone")
    answer = (await client.post("/v1/pins/batch", {"pins": [*items, refused]})).json()
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["created", "created", "existing", "created", "existing", "failed"]
    workspace_id = client.workspace.id
    ids = [result["pin"]["id"] for result in answer["results"][:5]]
    first, second = (str(compute_generation_id(workspace_id, key, 1)) for key in keys[:2])
    assert ids == [first, second, taken["id"], str(compute_pin_id(workspace_id, keys[3])), first]
    assert await client.events(first) == ["published"]


async def test_a_dry_run_of_a_pin_sees_that_a_key_is_free_again(
    client: Client, database: Database, keys: list[str]
) -> None:
    job = Import(client, database, {"idempotency_key": keys[0]})
    await job.settle()
    await job.undo()
    body = client.pin(idempotency_key=keys[0])
    report = (await client.post("/v1/pins/validate", body)).json()
    assert (report["valid"], report["existing_pin_id"]) == (True, None)
    pin = await client.publish_pin(idempotency_key=keys[0])
    report = (await client.post("/v1/pins/validate", body)).json()
    assert report["existing_pin_id"] == pin["id"]


async def test_a_key_can_be_released_and_taken_many_times(
    client: Client, database: Database, keys: list[str]
) -> None:
    for generation in range(3):
        job = Import(client, database, {"idempotency_key": keys[0]})
        (result,) = await job.settle()
        expected = compute_generation_id(client.workspace.id, keys[0], generation)
        assert (result.status, result.pin_id) == ("created", expected)
        assert name_undone(await job.undo()) == [(1, "deleted")]
        assert await job.settle() == [result]


async def test_an_internal_route_needs_the_installations_token(
    client: Client, database: Database
) -> None:
    job = Import(client, database, {})
    for name in ("check", "cancel", "undo", "row"):
        answer = await client.call_internally(f"imports/{name}", job.reference, token="guessed")
        assert read_error(answer) == (403, "internal_access_denied")
        answer = await client.post(f"/internal/imports/{name}", job.reference)
        assert read_error(answer) == (403, "internal_access_denied")


async def test_an_undo_waits_until_a_restored_database_has_all_pins_of_the_import(
    client: Client, database: Database
) -> None:
    job = Import(client, database, {})
    await client.execute(
        "insert into publisher.row_outcomes (job_id, row_number, status, pin_id, promised_pin_id) "
        "values (:job, 1, 'created', :pin, :pin)",
        job=job.job_id,
        pin=compute_pin_id(client.workspace.id, job.rows[0].row.idempotency_key),
    )
    answer = await client.call_internally("imports/undo", job.reference)
    assert read_error(answer) == (503, "key_recovering")
    await job.settle()
    assert name_undone(await job.undo()) == [(1, "deleted")]


async def test_the_undos_of_imports_are_summarized(client: Client, database: Database) -> None:
    undone, partly, kept = (Import(client, database, {}, {}) for _ in range(3))
    for job in (undone, partly, kept):
        results = await job.settle()
        if job is partly:
            assert (await client.delete(f"/v1/pins/{results[0].pin_id}")).status_code == 204
        if job is not kept:
            await job.undo()
    request = {
        "workspace_id": str(client.workspace.id),
        "job_ids": [str(job.job_id) for job in (undone, partly, kept)],
    }
    undos = (await client.call_internally("imports/undos", request)).json()["undos"]
    counts = {
        undo["job_id"]: (undo["undone_rows"], undo["removing_rows"], undo["left_rows"])
        for undo in undos
    }
    assert counts == {str(undone.job_id): (2, 0, 0), str(partly.job_id): (1, 0, 1)}
    foreign = {**request, "workspace_id": str(uuid4())}
    assert (await client.call_internally("imports/undos", foreign)).json() == {"undos": []}
