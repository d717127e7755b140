"""Single schedules: made, edited, cancelled, revived, deleted, alone and many at once."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from services.publisher.ids import compute_pin_id
from services.publisher.rows.outcomes import CreatedRow, ExistingRow, find_result_ids
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from shared.access.cache import BoardCache
from shared.access.keys import Scope
from shared.access.model import Principal
from shared.contract.events import RowAccepted
from shared.contract.schedule_ids import derive_schedule_id
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.publisher.conftest import (
    Client,
    in_future,
    made,
    pin_of,
    refusal,
    results,
    serving,
)
from tests.support.factories import BOARD, row_accepted

IMAGE, ASSET = "https://cdn.example/lamps.jpg", str(uuid4())


async def read(client: Client, schedule: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/schedules/{schedule['id']}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_a_schedule_is_published_when_it_is_due(client: Client) -> None:
    schedule = await client.scheduled(title="Later")
    assert (schedule["status"], schedule["pin_id"], schedule["payload"]["title"]) == (
        "scheduled",
        None,
        "Later",
    )
    assert schedule == await read(client, schedule)
    await client.run_due()
    assert (await read(client, schedule))["status"] == "scheduled"
    await client.make_due(schedule)
    assert (await read(client, schedule))["status"] == "queued"
    await client.run_due()
    done = await read(client, schedule)
    assert (done["status"], done["pin_id"]) == ("done", str(pin_of(schedule)))
    assert await client.events(pin_of(schedule)) == ["scheduled", "published"]


async def test_a_repeated_request_with_its_key_is_answered_the_same(client: Client) -> None:
    body = client.schedule()
    first = await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"})
    again = await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"})
    assert (made(again), again.headers["idempotent-replayed"]) == (made(first), "true")
    assert "idempotent-replayed" not in first.headers
    assert first.json()["payload"]["idempotency_key"] == "mine"
    assert await client.events(pin_of(first.json())) == ["scheduled"]


async def test_a_repeated_request_is_answered_the_same_whatever_has_become_of_its_time_and_board(
    client: Client,
) -> None:
    board = f"going-{uuid4()}"
    await client.workspace.operator.add_board(
        client.workspace.id, client.workspace.account_id, board, name="Going"
    )
    body = client.schedule(board_id=board, run_at="2031-01-01T00:00:00Z")
    schedule = made(await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"}))
    await client.make_due(schedule)
    await client.run_due()
    again = await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"})
    assert (made(again)["id"], made(again)["status"]) == (schedule["id"], "done")


async def test_without_a_key_each_request_makes_a_schedule(client: Client) -> None:
    body = client.schedule()
    first, second = (
        made(await client.post("/v1/schedules", body)),
        made(await client.post("/v1/schedules", body)),
    )
    assert first["id"] != second["id"]


async def test_a_key_in_the_body_is_taken_if_the_header_has_none(client: Client) -> None:
    body = client.schedule(idempotency_key="in body")
    assert made(await client.post("/v1/schedules", body))["payload"]["idempotency_key"] == "in body"
    made(await client.post("/v1/schedules", body, **{"Idempotency-Key": "in body"}))


@pytest.mark.parametrize("path", ["/v1/schedules", "/v1/schedules/validate"])
@pytest.mark.parametrize("key", ["another", 7])
async def test_two_keys_that_differ_are_refused(client: Client, path: str, key: object) -> None:
    answer = await client.post(
        path, client.schedule(idempotency_key=key), **{"Idempotency-Key": "7"}
    )
    assert refusal(answer) == (422, "invalid_parameter")


async def test_invariant_3_a_key_is_the_same_in_the_header_as_in_a_body(client: Client) -> None:
    key = "é" * 254 + "日"
    body = client.schedule()
    first = made(await client.post("/v1/schedules", body, **{"Idempotency-Key": f"\u00a0{key}"}))
    assert first["payload"]["idempotency_key"] == key
    assert (
        made(await client.post("/v1/schedules", {**body, "idempotency_key": f" {key} "})) == first
    )
    assert refusal(await client.post("/v1/pins", client.pin(idempotency_key=key))) == (
        409,
        "already_scheduled",
    )


async def test_a_key_of_the_header_that_is_not_utf8_is_refused(
    http: httpx.AsyncClient, client: Client
) -> None:
    headers = {**client.workspace.headers, "Idempotency-Key": "é"}
    answer = await http.post(
        "/v1/schedules", json=client.schedule(), headers=httpx.Headers(headers, encoding="latin-1")
    )
    assert refusal(answer) == (422, "invalid_parameter")


async def test_a_key_that_has_another_content_is_refused(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    await client.post("/v1/schedules", body)
    for other in ({**body, "title": "Other"}, {**body, "run_at": in_future(days=3)}):
        assert refusal(await client.post("/v1/schedules", other)) == (422, "idempotency_key_reused")
    await client.published(idempotency_key="pin")
    assert refusal(await client.post("/v1/schedules", client.schedule(idempotency_key="pin"))) == (
        422,
        "idempotency_key_reused",
    )


async def test_an_edited_schedule_is_still_that_of_its_first_request(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    schedule = made(await client.post("/v1/schedules", body))
    await client.patch(f"/v1/schedules/{schedule['id']}", {"title": "Edited"})
    assert made(await client.post("/v1/schedules", body))["payload"]["title"] == "Edited"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"run_at": None}, "validation_error"),
        ({"run_at": "2031-01-01T00:00:00"}, "validation_error"),
        ({"run_at": 1_900_000_000}, "validation_error"),
        ({"run_at": "2020-01-01T00:00:00Z"}, "run_at_in_past"),
        ({"title": None}, "validation_error"),
        ({"image_url": None}, "validation_error"),
        ({"asset_id": ASSET}, "validation_error"),
        ({"link_url": "x"}, "validation_error"),
        ({"board_id": "nowhere"}, "board_not_found"),
        ({"account_id": str(uuid4())}, "account_not_found"),
        ({"idempotency_key": 7}, "validation_error"),
    ],
)
async def test_a_schedule_that_is_wrong_is_refused(
    client: Client, fields: dict[str, Any], code: str
) -> None:
    assert refusal(await client.post("/v1/schedules", client.schedule(**fields))) == (422, code)


async def test_a_key_of_the_header_that_is_too_long_is_refused(client: Client) -> None:
    answer = await client.post("/v1/schedules", client.schedule(), **{"Idempotency-Key": "x" * 256})
    assert refusal(answer) == (422, "invalid_parameter")


async def test_a_schedule_is_edited_as_long_as_it_waits(client: Client) -> None:
    schedule = await client.scheduled()
    at = in_future(days=2)
    given = {"title": "Edited", "description": None, "run_at": at, "x": 1}
    edited = (await client.patch(f"/v1/schedules/{schedule['id']}", given)).json()
    assert edited == await read(client, schedule)
    assert (edited["payload"]["title"], edited["payload"].get("description")) == ("Edited", None)
    assert edited["run_at"] > schedule["run_at"]
    assert await client.events(pin_of(schedule)) == ["scheduled", "scheduled"]


async def test_an_edit_that_moves_nothing_announces_nothing(client: Client) -> None:
    schedule = await client.scheduled()
    await client.patch(
        f"/v1/schedules/{schedule['id']}", {"title": "Edited", "run_at": schedule["run_at"]}
    )
    assert await client.events(pin_of(schedule)) == ["scheduled"]


async def test_one_source_of_an_image_takes_the_others_place(client: Client) -> None:
    schedule = await client.scheduled()
    payload = (await client.patch(f"/v1/schedules/{schedule['id']}", {"asset_id": ASSET})).json()[
        "payload"
    ]
    assert (payload["asset_id"], payload.get("image_url")) == (ASSET, None)
    payload = (
        await client.patch(
            f"/v1/schedules/{schedule['id']}", {"image_url": IMAGE, "asset_id": None}
        )
    ).json()["payload"]
    assert (payload.get("asset_id"), payload["image_url"]) == (None, IMAGE)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "invalid_payload"),
        ({"account_id": str(uuid4())}, "invalid_payload"),
        ([], "invalid_payload"),
        ({"run_at": "2020-01-01T00:00:00Z"}, "run_at_in_past"),
        ({"run_at": None}, "validation_error"),
        ({"run_at": "tomorrow"}, "validation_error"),
        ({"title": None}, "validation_error"),
        ({"image_url": None}, "validation_error"),
        ({"image_url": IMAGE, "asset_id": ASSET}, "validation_error"),
        ({"cover_image_url": IMAGE, "cover_image_asset_id": ASSET}, "validation_error"),
        ({"board_id": "nowhere"}, "board_not_found"),
    ],
)
async def test_an_edit_that_is_wrong_changes_nothing(client: Client, given: Any, code: str) -> None:
    schedule = await client.scheduled()
    assert refusal(await client.patch(f"/v1/schedules/{schedule['id']}", given)) == (422, code)
    assert await read(client, schedule) == schedule


async def test_what_does_not_wait_cannot_be_edited(client: Client) -> None:
    cancelled, failed, done = await client.scheduled(), await client.failed(), await client.due()
    await client.post(f"/v1/schedules/{cancelled['id']}/cancel")
    await client.run_due()
    due = await client.due()
    for schedule in (cancelled, failed, done, due):
        assert refusal(
            await client.patch(f"/v1/schedules/{schedule['id']}", {"title": "Late"})
        ) == (409, "schedule_not_pending")


async def test_a_cancelled_schedule_is_not_published(client: Client) -> None:
    schedule = await client.due()
    cancelled = await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "canceled")
    await client.run_due()
    again = await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    assert (again.status_code, again.json()) == (200, cancelled.json())
    assert await client.events(pin_of(schedule)) == ["scheduled"]


async def test_what_is_done_or_failed_cannot_be_cancelled(client: Client) -> None:
    failed, done = await client.failed(), await client.due()
    await client.run_due()
    for schedule in (failed, done):
        assert refusal(await client.post(f"/v1/schedules/{schedule['id']}/cancel")) == (
            409,
            "schedule_not_pending",
        )


async def test_a_cancelled_schedule_is_revived_for_its_time(client: Client) -> None:
    schedule = await client.scheduled()
    await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    revived = await client.post(f"/v1/schedules/{schedule['id']}/retry")
    assert (revived.status_code, revived.json()["status"], revived.json()["run_at"]) == (
        200,
        "scheduled",
        schedule["run_at"],
    )
    again = await client.post(f"/v1/schedules/{schedule['id']}/retry")
    assert (again.status_code, again.json()) == (200, revived.json())
    assert await client.events(pin_of(schedule)) == ["scheduled", "scheduled"]


async def test_a_revived_schedule_whose_time_is_over_is_due_at_once(client: Client) -> None:
    schedule = await client.due()
    await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    assert (await client.post(f"/v1/schedules/{schedule['id']}/retry")).json()["status"] == "queued"
    await client.run_due()
    assert (await read(client, schedule))["status"] == "done"


async def test_a_failed_schedule_is_corrected_as_a_pin_and_revived(client: Client) -> None:
    schedule = await client.failed()
    await client.patch(f"/v1/pins/{pin_of(schedule)}", {"board_id": BOARD})
    revived = (await client.post(f"/v1/schedules/{schedule['id']}/retry")).json()
    assert (revived["status"], revived["last_error"]) == ("queued", None)
    await client.run_due()
    assert (await read(client, schedule))["status"] == "done"
    assert await client.events(pin_of(schedule)) == [
        "scheduled",
        "failed",
        "scheduled",
        "published",
    ]


async def test_a_revived_schedule_without_its_board_fails_again(client: Client) -> None:
    schedule = await client.failed()
    await client.post(f"/v1/schedules/{schedule['id']}/retry")
    await client.run_due()
    assert (await read(client, schedule))["status"] == "failed"
    assert await client.events(pin_of(schedule)) == ["scheduled", "failed", "scheduled", "failed"]


async def test_a_schedule_that_is_done_cannot_be_revived_or_deleted(client: Client) -> None:
    schedule = await client.due()
    await client.run_due()
    assert refusal(await client.post(f"/v1/schedules/{schedule['id']}/retry")) == (
        409,
        "schedule_already_published",
    )
    assert refusal(await client.delete(f"/v1/schedules/{schedule['id']}")) == (
        409,
        "schedule_already_published",
    )
    assert (await client.get(f"/v1/pins/{pin_of(schedule)}")).status_code == 200


@pytest.mark.parametrize("state", ["waiting", "due", "cancelled", "failed"])
async def test_a_deleted_schedule_is_gone_for_good_and_its_key_stays_taken(
    client: Client, state: str
) -> None:
    key = f"deleted-{uuid4()}"
    schedule = await {"due": client.due, "failed": client.failed}.get(state, client.scheduled)(
        idempotency_key=key
    )
    if state == "cancelled":
        await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    answer = await client.delete(f"/v1/schedules/{schedule['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    await client.make_due(schedule)
    await client.run_due()
    for again in (
        await client.get(f"/v1/schedules/{schedule['id']}"),
        await client.delete(f"/v1/schedules/{schedule['id']}"),
        await client.post(f"/v1/schedules/{schedule['id']}/cancel"),
        await client.post(f"/v1/schedules/{schedule['id']}/retry"),
        await client.get(f"/v1/pins/{pin_of(schedule)}"),
    ):
        assert refusal(again) == (404, "not_found")
    assert "published" not in await client.events(pin_of(schedule))
    assert refusal(await client.post("/v1/pins", client.pin(idempotency_key=key))) == (
        409,
        "pin_deleted",
    )


async def test_a_deleted_schedules_request_is_not_taken_for_a_new_one(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    schedule = made(await client.post("/v1/schedules", body))
    await client.delete(f"/v1/schedules/{schedule['id']}")
    assert refusal(await client.post("/v1/schedules", body)) == (409, "pin_deleted")


async def test_a_pin_on_a_cancelled_schedules_key_is_refused(client: Client) -> None:
    schedule = await client.scheduled(idempotency_key="k")
    await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    answer = await client.post("/v1/pins", client.pin(idempotency_key="k"))
    assert (refusal(answer), answer.json()["detail"]["schedule_id"]) == (
        (409, "already_scheduled"),
        schedule["id"],
    )


async def test_invariant_3_an_imported_row_on_a_cancelled_or_deleted_key_is_existing(
    client: Client, database: Database
) -> None:
    workspace = client.workspace
    cancelled = await client.scheduled(idempotency_key="cancelled")
    await client.post(f"/v1/schedules/{cancelled['id']}/cancel")
    pin = await client.published(idempotency_key="deleted")
    await client.delete(f"/v1/pins/{pin['id']}")
    settler = RowService(RowRepository(database), BoardCache(workspace.access))
    about: dict[str, Any] = {"workspace_id": workspace.id, "account_id": str(workspace.account_id)}
    rows = [row_accepted(**about, idempotency_key=key) for key in ("cancelled", "deleted")]
    outcomes = (await settler.settle(rows, advance=Advance())).outcomes
    existing = {
        one.keyed.row.row.idempotency_key: find_result_ids(one)
        for one in outcomes
        if isinstance(one, ExistingRow)
    }
    assert {key: [str(one) if one else None for one in ids] for key, ids in existing.items()} == {
        "cancelled": [None, cancelled["id"]],
        "deleted": [pin["id"], None],
    }


async def told(
    settler: RowService, rows: list[RowAccepted]
) -> dict[UUID, tuple[UUID | None, UUID | None]]:
    """The ids that each row reports, all of them created."""
    outcomes = (await settler.settle(rows, advance=Advance())).outcomes
    assert {type(one) for one in outcomes} == {CreatedRow}
    return {
        one.keyed.pin_id: find_result_ids(one) for one in outcomes if isinstance(one, CreatedRow)
    }


async def test_invariant_4_commands_do_not_change_what_a_redelivered_row_reports(
    client: Client, database: Database
) -> None:
    workspace = client.workspace
    about: dict[str, Any] = {"workspace_id": workspace.id, "account_id": str(workspace.account_id)}
    rows = [
        row_accepted(**about, run_at="2031-01-01T00:00:00Z", idempotency_key=f"row-{number}")
        for number in range(4)
    ]
    settler = RowService(RowRepository(database), BoardCache(workspace.access))
    first = await told(settler, rows)
    ids = [first[compute_pin_id(workspace.id, f"row-{number}")][1] for number in range(4)]
    await client.patch(f"/v1/schedules/{ids[0]}", {"run_at": in_future(), "title": "Edited"})
    await client.post(f"/v1/schedules/{ids[1]}/cancel")
    await client.delete(f"/v1/schedules/{ids[2]}")
    await client.make_due({"id": str(ids[3])})
    await client.run_due()
    await client.delete(f"/v1/pins/{compute_pin_id(workspace.id, 'row-3')}")
    assert await told(settler, rows) == first


async def test_many_schedules_are_cancelled_revived_and_deleted_each_for_itself(
    client: Client,
) -> None:
    cancelled, waiting, failed, done = (
        await client.scheduled(),
        await client.scheduled(),
        await client.failed(),
        await client.due(),
    )
    await client.run_due()
    await client.post(f"/v1/schedules/{cancelled['id']}/cancel")
    ids = {
        "ids": [
            cancelled["id"],
            waiting["id"],
            failed["id"],
            done["id"],
            str(uuid4()),
            waiting["id"],
        ]
    }
    assert results(await client.post("/v1/schedules/bulk-cancel", ids)) == [
        ("skipped", None),
        ("succeeded", None),
        ("skipped", "schedule_not_pending"),
        ("skipped", "schedule_not_pending"),
        ("failed", "not_found"),
        ("skipped", "duplicate_id"),
    ]
    assert results(await client.post("/v1/schedules/bulk-retry", ids))[:5] == [
        ("succeeded", None),
        ("succeeded", None),
        ("succeeded", None),
        ("skipped", "schedule_already_published"),
        ("failed", "not_found"),
    ]
    assert results(await client.post("/v1/schedules/bulk-delete", ids))[:5] == [
        ("succeeded", None),
        ("succeeded", None),
        ("succeeded", None),
        ("skipped", "schedule_already_published"),
        ("failed", "not_found"),
    ]


async def test_invariant_10_another_workspaces_schedules_do_not_exist(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    schedule = await client.scheduled(idempotency_key="k")
    other = Client(http, await make_workspace(database), database)
    path = f"/v1/schedules/{schedule['id']}"
    for answer in (
        await other.patch(path, {"title": "Theirs"}),
        await other.delete(path),
        await other.post(f"{path}/cancel"),
        await other.post(f"{path}/retry"),
    ):
        assert refusal(answer) == (404, "not_found")
    for command in ("cancel", "retry", "delete"):
        assert results(
            await other.post(f"/v1/schedules/bulk-{command}", {"ids": [schedule["id"]]})
        ) == [("failed", "not_found")]
    assert (
        made(await other.post("/v1/schedules", other.schedule(idempotency_key="k")))["id"]
        != schedule["id"]
    )
    assert await read(client, schedule) == schedule


@pytest.mark.parametrize("schedule_id", [str(uuid4()), "x"], ids=["absent", "nonsense"])
async def test_a_schedule_that_is_not_there_is_not_found(client: Client, schedule_id: str) -> None:
    for answer in (
        await client.get(f"/v1/schedules/{schedule_id}"),
        await client.post(f"/v1/schedules/{schedule_id}/cancel"),
    ):
        assert refusal(answer) == (404, "not_found")


async def test_a_pin_that_never_had_a_time_is_no_schedule(client: Client) -> None:
    pin = await client.published()
    found = derive_schedule_id(UUID(pin["id"]))
    for answer in (
        await client.post(f"/v1/schedules/{found}/cancel"),
        await client.delete(f"/v1/schedules/{found}"),
    ):
        assert refusal(answer) == (404, "not_found")


async def test_a_key_sees_and_changes_only_schedules_of_its_accounts(
    client: Client, workspace: Workspace, database: Database, database_url: str
) -> None:
    schedule = await client.scheduled()
    own = await workspace.add_account("own")
    principal = Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({own}))
    async with serving(database_url, principal) as http:
        narrow = Client(http, workspace, database)
        path = f"/v1/schedules/{schedule['id']}"
        for answer in (
            await narrow.get(path),
            await narrow.patch(path, {"title": "Theirs"}),
            await narrow.delete(path),
            await narrow.post(f"{path}/cancel"),
            await narrow.post(f"{path}/retry"),
        ):
            assert refusal(answer) == (404, "not_found")
        assert results(
            await narrow.post("/v1/schedules/bulk-cancel", {"ids": [schedule["id"]]})
        ) == [("failed", "not_found")]
        assert refusal(await narrow.post("/v1/schedules", narrow.schedule())) == (
            403,
            "account_not_permitted",
        )
        mine = await narrow.scheduled(account_id=str(own), board_id="own")
        assert (await narrow.post(f"/v1/schedules/{mine['id']}/cancel")).status_code == 200


async def test_a_repeated_request_tells_nothing_of_an_account_that_the_schedule_has_since_moved_to(
    client: Client, workspace: Workspace, database: Database, database_url: str
) -> None:
    other = await workspace.add_account("other")
    board = f"gone-{uuid4()}"
    await workspace.operator.add_board(workspace.id, workspace.account_id, board, name="Going")
    body = client.schedule(board_id=board, idempotency_key="k")
    schedule = made(await client.post("/v1/schedules", body))
    await client.make_due(schedule)
    await client.execute("delete from access.boards where board_id = :id", id=board)
    await client.run_due()
    moved = await client.post(
        f"/v1/pins/{pin_of(schedule)}/retry", {"account_id": str(other), "board_id": "other"}
    )
    assert moved.status_code == 200
    async with serving(
        database_url,
        Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({workspace.account_id})),
    ) as http:
        narrow = Client(http, workspace, database)
        assert refusal(await narrow.post("/v1/schedules", body)) == (422, "idempotency_key_reused")
    assert made(await client.post("/v1/schedules", body))["id"] == schedule["id"]


async def test_deleting_schedules_wants_the_destructive_scope(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    writer = Client(
        http, await make_workspace(database, scopes=(Scope.READ, Scope.WRITE)), database
    )
    schedule = await writer.scheduled()
    assert refusal(await writer.delete(f"/v1/schedules/{schedule['id']}")) == (
        403,
        "insufficient_scope",
    )
    assert refusal(await writer.post("/v1/schedules/bulk-delete", {"ids": [schedule["id"]]})) == (
        403,
        "insufficient_scope",
    )
    assert (await writer.post(f"/v1/schedules/{schedule['id']}/cancel")).status_code == 200


async def test_what_is_deleted_is_never_left_in_the_schedulers_way(
    client: Client, database: Database
) -> None:
    await client.delete(f"/v1/schedules/{(await client.due())['id']}")
    query = text(
        "select count(*) as waiting from publisher.pins where state = 'scheduled' and deleted_at "
        "is not null"
    )
    row = await database.fetch_first(query)
    assert row == {"waiting": 0}
