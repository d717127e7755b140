"""Schedules: create, edit, cancel, retry and delete, single and in bulk."""

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
    find_pin_id,
    in_future,
    read_bulk_results,
    read_error,
    require_created,
    serving,
)
from tests.support.factories import BOARD, row_accepted

IMAGE, ASSET = "https://cdn.example/lamps.jpg", str(uuid4())


async def read_schedule(client: Client, schedule: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/schedules/{schedule['id']}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_a_schedule_is_published_when_it_is_due(client: Client) -> None:
    schedule = await client.create_schedule(title="Later")
    assert (schedule["status"], schedule["pin_id"], schedule["payload"]["title"]) == (
        "scheduled",
        None,
        "Later",
    )
    assert schedule == await read_schedule(client, schedule)
    await client.publish_due()
    assert (await read_schedule(client, schedule))["status"] == "scheduled"
    await client.make_due(schedule)
    assert (await read_schedule(client, schedule))["status"] == "queued"
    await client.publish_due()
    done = await read_schedule(client, schedule)
    assert (done["status"], done["pin_id"]) == ("done", str(find_pin_id(schedule)))
    assert await client.events(find_pin_id(schedule)) == ["scheduled", "published"]


async def test_a_repeated_request_with_its_key_is_answered_the_same(client: Client) -> None:
    body = client.schedule()
    first = await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"})
    again = await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"})
    assert (require_created(again), again.headers["idempotent-replayed"]) == (
        require_created(first),
        "true",
    )
    assert "idempotent-replayed" not in first.headers
    assert first.json()["payload"]["idempotency_key"] == "mine"
    assert await client.events(find_pin_id(first.json())) == ["scheduled"]


async def test_a_repeated_request_is_answered_the_same_even_after_its_run_at(
    client: Client,
) -> None:
    board = f"going-{uuid4()}"
    await client.workspace.operator.add_board(
        client.workspace.id, client.workspace.account_id, board, name="Going"
    )
    body = client.schedule(board_id=board, run_at="2031-01-01T00:00:00Z")
    schedule = require_created(
        await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"})
    )
    await client.make_due(schedule)
    await client.publish_due()
    again = await client.post("/v1/schedules", body, **{"Idempotency-Key": "mine"})
    assert (require_created(again)["id"], require_created(again)["status"]) == (
        schedule["id"],
        "done",
    )


async def test_without_a_key_each_request_creates_a_schedule(client: Client) -> None:
    body = client.schedule()
    first, second = (
        require_created(await client.post("/v1/schedules", body)),
        require_created(await client.post("/v1/schedules", body)),
    )
    assert first["id"] != second["id"]


async def test_a_key_in_the_body_is_used_if_the_header_has_none(client: Client) -> None:
    body = client.schedule(idempotency_key="in body")
    assert (
        require_created(await client.post("/v1/schedules", body))["payload"]["idempotency_key"]
        == "in body"
    )
    require_created(await client.post("/v1/schedules", body, **{"Idempotency-Key": "in body"}))


@pytest.mark.parametrize(
    "path", ["/v1/schedules", "/v1/schedules/validate", "/v1/pins", "/v1/pins/validate"]
)
@pytest.mark.parametrize("key", ["another", 7])
async def test_two_keys_that_differ_are_refused(client: Client, path: str, key: object) -> None:
    build = client.schedule if path.startswith("/v1/schedules") else client.pin
    answer = await client.post(path, build(idempotency_key=key), **{"Idempotency-Key": "7"})
    assert read_error(answer) == (422, "invalid_parameter")


async def test_invariant_3_a_key_is_the_same_in_the_header_as_in_a_body(client: Client) -> None:
    key = "é" * 254 + "日"
    body = client.schedule()
    first = require_created(
        await client.post("/v1/schedules", body, **{"Idempotency-Key": f"\u00a0{key}"})
    )
    assert first["payload"]["idempotency_key"] == key
    assert (
        require_created(await client.post("/v1/schedules", {**body, "idempotency_key": f" {key} "}))
        == first
    )
    assert read_error(await client.post("/v1/pins", client.pin(idempotency_key=key))) == (
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
    assert read_error(answer) == (422, "invalid_parameter")


async def test_a_key_with_different_content_is_refused(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    await client.post("/v1/schedules", body)
    for other in ({**body, "title": "Other"}, {**body, "run_at": in_future(days=3)}):
        assert read_error(await client.post("/v1/schedules", other)) == (
            422,
            "idempotency_key_reused",
        )
    await client.publish_pin(idempotency_key="pin")
    assert read_error(
        await client.post("/v1/schedules", client.schedule(idempotency_key="pin"))
    ) == (
        422,
        "idempotency_key_reused",
    )


async def test_a_schedule_takes_every_spelling_of_a_time_that_an_import_takes(
    client: Client,
) -> None:
    body = client.schedule(run_at="2031-01-01 12:00:00 +02")
    schedule = require_created(await client.post("/v1/schedules", body))
    assert schedule["run_at"] == "2031-01-01T10:00:00Z"
    edited = await client.patch(
        f"/v1/schedules/{schedule['id']}", {"run_at": "2031-01-02 10:00:00 UTC"}
    )
    assert edited.json()["run_at"] == "2031-01-02T10:00:00Z"


async def test_a_refused_schedule_names_the_fields_that_differ(client: Client) -> None:
    body = client.schedule(idempotency_key="k", run_at="2031-01-01T12:00:00+02:00")
    schedule = require_created(await client.post("/v1/schedules", body))
    other = {**body, "title": "Other", "run_at": "2032-01-01T00:00:00Z"}
    detail = (await client.post("/v1/schedules", other)).json()["detail"]
    assert detail["pin_id"] == str(find_pin_id(schedule))
    assert detail["differing_fields"] == [
        {"field": "title", "stored": "Autumn lamps", "sent": "Other"},
        {"field": "run_at", "stored": "2031-01-01T10:00:00Z", "sent": "2032-01-01T00:00:00Z"},
    ]


async def test_the_first_request_of_an_edited_schedule_can_be_repeated(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    schedule = require_created(await client.post("/v1/schedules", body))
    await client.patch(f"/v1/schedules/{schedule['id']}", {"title": "Edited"})
    assert require_created(await client.post("/v1/schedules", body))["payload"]["title"] == "Edited"


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
async def test_an_invalid_schedule_is_refused(
    client: Client, fields: dict[str, Any], code: str
) -> None:
    assert read_error(await client.post("/v1/schedules", client.schedule(**fields))) == (422, code)


async def test_a_key_of_the_header_that_is_too_long_is_refused(client: Client) -> None:
    answer = await client.post("/v1/schedules", client.schedule(), **{"Idempotency-Key": "x" * 256})
    assert read_error(answer) == (422, "invalid_parameter")


async def test_a_waiting_schedule_can_be_edited(client: Client) -> None:
    schedule = await client.create_schedule()
    at = in_future(days=2)
    changes = {"title": "Edited", "description": None, "run_at": at}
    edited = (await client.patch(f"/v1/schedules/{schedule['id']}", changes)).json()
    assert edited == await read_schedule(client, schedule)
    assert (edited["payload"]["title"], edited["payload"].get("description")) == ("Edited", None)
    assert edited["run_at"] > schedule["run_at"]
    assert await client.events(find_pin_id(schedule)) == ["scheduled", "scheduled"]


async def test_an_edit_that_keeps_run_at_announces_no_event(client: Client) -> None:
    schedule = await client.create_schedule()
    await client.patch(
        f"/v1/schedules/{schedule['id']}", {"title": "Edited", "run_at": schedule["run_at"]}
    )
    assert await client.events(find_pin_id(schedule)) == ["scheduled"]


async def test_setting_one_image_source_clears_the_other(client: Client) -> None:
    schedule = await client.create_schedule()
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
    ("body", "code"),
    [
        ({}, "invalid_payload"),
        ({"account_id": str(uuid4())}, "validation_error"),
        ([], "invalid_payload"),
        ({"run_at": "2020-01-01T00:00:00Z"}, "run_at_in_past"),
        ({"run_at": None}, "validation_error"),
        ({"run_at": "tomorrow"}, "validation_error"),
        ({"title": None}, "validation_error"),
        ({"image_url": None}, "validation_error"),
        ({"image_url": IMAGE, "asset_id": ASSET}, "validation_error"),
        ({"cover_image_url": IMAGE, "cover_image_asset_id": ASSET}, "validation_error"),
        ({"board_id": "nowhere"}, "board_not_found"),
        ({"title": "New", "alt_text": "x"}, "validation_error"),
        ({"title": "New", "runat": "2031-01-01T00:00:00Z"}, "unknown_field"),
    ],
)
async def test_an_invalid_edit_changes_nothing(client: Client, body: Any, code: str) -> None:
    schedule = await client.create_schedule()
    assert read_error(await client.patch(f"/v1/schedules/{schedule['id']}", body)) == (422, code)
    assert await read_schedule(client, schedule) == schedule


async def test_a_field_that_an_edit_cannot_change_is_refused_by_name(client: Client) -> None:
    schedule = await client.create_schedule()
    answer = await client.patch(f"/v1/schedules/{schedule['id']}", {**schedule, "runat": "x"})
    faults = {fault["field"]: fault for fault in answer.json()["detail"]["errors"]}
    assert {name for name, fault in faults.items() if fault["code"] == "not_editable"} == set(
        schedule
    ) - {"run_at"}
    assert faults["runat"]["code"] == "unknown_field"
    assert "Did you mean run_at?" in faults["runat"]["message"]


async def test_only_a_waiting_schedule_can_be_edited(client: Client) -> None:
    canceled, failed, done = (
        await client.create_schedule(),
        await client.create_failed_schedule(),
        await client.create_due_schedule(),
    )
    await client.post(f"/v1/schedules/{canceled['id']}/cancel")
    await client.publish_due()
    due = await client.create_due_schedule()
    for schedule in (canceled, failed, done, due):
        assert read_error(
            await client.patch(f"/v1/schedules/{schedule['id']}", {"title": "Late"})
        ) == (409, "schedule_not_pending")


async def test_a_canceled_schedule_is_not_published(client: Client) -> None:
    schedule = await client.create_due_schedule()
    canceled = await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    await client.publish_due()
    again = await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    assert (again.status_code, again.json()) == (200, canceled.json())
    assert await client.events(find_pin_id(schedule)) == ["scheduled"]


async def test_a_done_or_failed_schedule_cannot_be_canceled(client: Client) -> None:
    failed, done = await client.create_failed_schedule(), await client.create_due_schedule()
    await client.publish_due()
    for schedule in (failed, done):
        assert read_error(await client.post(f"/v1/schedules/{schedule['id']}/cancel")) == (
            409,
            "schedule_not_pending",
        )


async def test_a_canceled_schedule_is_retried_at_its_run_at(client: Client) -> None:
    schedule = await client.create_schedule()
    await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    retried = await client.post(f"/v1/schedules/{schedule['id']}/retry")
    assert (retried.status_code, retried.json()["status"], retried.json()["run_at"]) == (
        200,
        "scheduled",
        schedule["run_at"],
    )
    again = await client.post(f"/v1/schedules/{schedule['id']}/retry")
    assert (again.status_code, again.json()) == (200, retried.json())
    assert await client.events(find_pin_id(schedule)) == ["scheduled", "scheduled"]


async def test_a_retried_schedule_with_a_past_run_at_is_due_at_once(client: Client) -> None:
    schedule = await client.create_due_schedule()
    await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    assert (await client.post(f"/v1/schedules/{schedule['id']}/retry")).json()["status"] == "queued"
    await client.publish_due()
    assert (await read_schedule(client, schedule))["status"] == "done"


async def test_a_failed_schedule_is_corrected_as_a_pin_and_retried(client: Client) -> None:
    schedule = await client.create_failed_schedule()
    await client.patch(f"/v1/pins/{find_pin_id(schedule)}", {"board_id": BOARD})
    retried = (await client.post(f"/v1/schedules/{schedule['id']}/retry")).json()
    assert (retried["status"], retried["last_error"]) == ("queued", None)
    await client.publish_due()
    assert (await read_schedule(client, schedule))["status"] == "done"
    assert await client.events(find_pin_id(schedule)) == [
        "scheduled",
        "failed",
        "scheduled",
        "published",
    ]


async def test_a_retried_schedule_without_its_board_fails_again(client: Client) -> None:
    schedule = await client.create_failed_schedule()
    await client.post(f"/v1/schedules/{schedule['id']}/retry")
    await client.publish_due()
    assert (await read_schedule(client, schedule))["status"] == "failed"
    assert await client.events(find_pin_id(schedule)) == [
        "scheduled",
        "failed",
        "scheduled",
        "failed",
    ]


async def test_a_done_schedule_cannot_be_retried_or_deleted(client: Client) -> None:
    schedule = await client.create_due_schedule()
    await client.publish_due()
    assert read_error(await client.post(f"/v1/schedules/{schedule['id']}/retry")) == (
        409,
        "schedule_already_published",
    )
    assert read_error(await client.delete(f"/v1/schedules/{schedule['id']}")) == (
        409,
        "schedule_already_published",
    )
    assert (await client.get(f"/v1/pins/{find_pin_id(schedule)}")).status_code == 200


@pytest.mark.parametrize("state", ["waiting", "due", "cancelled", "failed"])
async def test_a_deleted_schedule_is_gone_for_good_and_its_key_stays_taken(
    client: Client, state: str
) -> None:
    key = f"deleted-{uuid4()}"
    schedule = await {
        "due": client.create_due_schedule,
        "failed": client.create_failed_schedule,
    }.get(state, client.create_schedule)(idempotency_key=key)
    if state == "cancelled":
        await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    answer = await client.delete(f"/v1/schedules/{schedule['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    await client.make_due(schedule)
    await client.publish_due()
    for again in (
        await client.get(f"/v1/schedules/{schedule['id']}"),
        await client.delete(f"/v1/schedules/{schedule['id']}"),
        await client.post(f"/v1/schedules/{schedule['id']}/cancel"),
        await client.post(f"/v1/schedules/{schedule['id']}/retry"),
        await client.get(f"/v1/pins/{find_pin_id(schedule)}"),
    ):
        assert read_error(again) == (404, "not_found")
    assert "published" not in await client.events(find_pin_id(schedule))
    assert read_error(await client.post("/v1/pins", client.pin(idempotency_key=key))) == (
        409,
        "pin_deleted",
    )


async def test_a_request_repeated_after_a_deletion_creates_nothing(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    schedule = require_created(await client.post("/v1/schedules", body))
    await client.delete(f"/v1/schedules/{schedule['id']}")
    assert read_error(await client.post("/v1/schedules", body)) == (409, "pin_deleted")


async def test_a_pin_on_a_canceled_schedules_key_is_refused(client: Client) -> None:
    schedule = await client.create_schedule(idempotency_key="k")
    await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    answer = await client.post("/v1/pins", client.pin(idempotency_key="k"))
    assert (read_error(answer), answer.json()["detail"]["schedule_id"]) == (
        (409, "already_scheduled"),
        schedule["id"],
    )


async def test_invariant_3_an_imported_row_on_a_canceled_or_deleted_key_is_existing(
    client: Client, database: Database
) -> None:
    workspace = client.workspace
    canceled = await client.create_schedule(idempotency_key="cancelled")
    await client.post(f"/v1/schedules/{canceled['id']}/cancel")
    pin = await client.publish_pin(idempotency_key="deleted")
    await client.delete(f"/v1/pins/{pin['id']}")
    settler = RowService(RowRepository(database), BoardCache(workspace.access))
    common_fields: dict[str, Any] = {
        "workspace_id": workspace.id,
        "account_id": str(workspace.account_id),
    }
    rows = [row_accepted(**common_fields, idempotency_key=key) for key in ("cancelled", "deleted")]
    outcomes = (await settler.settle(rows, advance=Advance())).outcomes
    existing = {
        outcome.keyed.row.row.idempotency_key: find_result_ids(outcome)
        for outcome in outcomes
        if isinstance(outcome, ExistingRow)
    }
    assert {
        key: [str(item) if item else None for item in ids] for key, ids in existing.items()
    } == {
        "cancelled": [None, canceled["id"]],
        "deleted": [pin["id"], None],
    }


async def settle_created(
    settler: RowService, rows: list[RowAccepted]
) -> dict[UUID, tuple[UUID | None, UUID | None]]:
    """Settles rows that are all created. Returns the ids that each row reports."""
    outcomes = (await settler.settle(rows, advance=Advance())).outcomes
    assert {type(outcome) for outcome in outcomes} == {CreatedRow}
    return {
        outcome.keyed.pin_id: find_result_ids(outcome)
        for outcome in outcomes
        if isinstance(outcome, CreatedRow)
    }


async def test_invariant_4_commands_do_not_change_what_a_redelivered_row_reports(
    client: Client, database: Database
) -> None:
    workspace = client.workspace
    common_fields: dict[str, Any] = {
        "workspace_id": workspace.id,
        "account_id": str(workspace.account_id),
    }
    rows = [
        row_accepted(
            **common_fields, run_at="2031-01-01T00:00:00Z", idempotency_key=f"row-{number}"
        )
        for number in range(4)
    ]
    settler = RowService(RowRepository(database), BoardCache(workspace.access))
    first = await settle_created(settler, rows)
    ids = [first[compute_pin_id(workspace.id, f"row-{number}")][1] for number in range(4)]
    await client.patch(f"/v1/schedules/{ids[0]}", {"run_at": in_future(), "title": "Edited"})
    await client.post(f"/v1/schedules/{ids[1]}/cancel")
    await client.delete(f"/v1/schedules/{ids[2]}")
    await client.make_due({"id": str(ids[3])})
    await client.publish_due()
    await client.delete(f"/v1/pins/{compute_pin_id(workspace.id, 'row-3')}")
    assert await settle_created(settler, rows) == first


async def test_bulk_commands_decide_each_schedule_separately(
    client: Client,
) -> None:
    canceled, waiting, failed, done = (
        await client.create_schedule(),
        await client.create_schedule(),
        await client.create_failed_schedule(),
        await client.create_due_schedule(),
    )
    await client.publish_due()
    await client.post(f"/v1/schedules/{canceled['id']}/cancel")
    ids = {
        "ids": [
            canceled["id"],
            waiting["id"],
            failed["id"],
            done["id"],
            str(uuid4()),
            waiting["id"],
        ]
    }
    assert read_bulk_results(await client.post("/v1/schedules/bulk-cancel", ids)) == [
        ("skipped", None),
        ("succeeded", None),
        ("skipped", "schedule_not_pending"),
        ("skipped", "schedule_not_pending"),
        ("failed", "not_found"),
        ("skipped", "duplicate_id"),
    ]
    assert read_bulk_results(await client.post("/v1/schedules/bulk-retry", ids))[:5] == [
        ("succeeded", None),
        ("succeeded", None),
        ("succeeded", None),
        ("skipped", "schedule_already_published"),
        ("failed", "not_found"),
    ]
    assert read_bulk_results(await client.post("/v1/schedules/bulk-delete", ids))[:5] == [
        ("succeeded", None),
        ("succeeded", None),
        ("succeeded", None),
        ("skipped", "schedule_already_published"),
        ("failed", "not_found"),
    ]


async def test_invariant_10_another_workspaces_schedules_do_not_exist(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    schedule = await client.create_schedule(idempotency_key="k")
    other = Client(http, await make_workspace(database), database)
    path = f"/v1/schedules/{schedule['id']}"
    for answer in (
        await other.patch(path, {"title": "Theirs"}),
        await other.delete(path),
        await other.post(f"{path}/cancel"),
        await other.post(f"{path}/retry"),
    ):
        assert read_error(answer) == (404, "not_found")
    for command in ("cancel", "retry", "delete"):
        assert read_bulk_results(
            await other.post(f"/v1/schedules/bulk-{command}", {"ids": [schedule["id"]]})
        ) == [("failed", "not_found")]
    assert (
        require_created(await other.post("/v1/schedules", other.schedule(idempotency_key="k")))[
            "id"
        ]
        != schedule["id"]
    )
    assert await read_schedule(client, schedule) == schedule


@pytest.mark.parametrize("schedule_id", [str(uuid4()), "x"], ids=["absent", "nonsense"])
async def test_an_unknown_schedule_is_not_found(client: Client, schedule_id: str) -> None:
    for answer in (
        await client.get(f"/v1/schedules/{schedule_id}"),
        await client.post(f"/v1/schedules/{schedule_id}/cancel"),
    ):
        assert read_error(answer) == (404, "not_found")


async def test_a_pin_without_run_at_has_no_schedule(client: Client) -> None:
    pin = await client.publish_pin()
    found = derive_schedule_id(UUID(pin["id"]))
    for answer in (
        await client.post(f"/v1/schedules/{found}/cancel"),
        await client.delete(f"/v1/schedules/{found}"),
    ):
        assert read_error(answer) == (404, "not_found")


async def test_a_key_sees_and_changes_only_schedules_of_its_accounts(
    client: Client, workspace: Workspace, database: Database, database_url: str
) -> None:
    schedule = await client.create_schedule()
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
            assert read_error(answer) == (404, "not_found")
        assert read_bulk_results(
            await narrow.post("/v1/schedules/bulk-cancel", {"ids": [schedule["id"]]})
        ) == [("failed", "not_found")]
        assert read_error(await narrow.post("/v1/schedules", narrow.schedule())) == (
            403,
            "account_not_permitted",
        )
        mine = await narrow.create_schedule(account_id=str(own), board_id="own")
        assert (await narrow.post(f"/v1/schedules/{mine['id']}/cancel")).status_code == 200


async def test_a_repeated_request_hides_a_schedule_that_moved_to_a_forbidden_account(
    client: Client, workspace: Workspace, database: Database, database_url: str
) -> None:
    other = await workspace.add_account("other")
    board = f"gone-{uuid4()}"
    await workspace.operator.add_board(workspace.id, workspace.account_id, board, name="Going")
    body = client.schedule(board_id=board, idempotency_key="k")
    schedule = require_created(await client.post("/v1/schedules", body))
    await client.make_due(schedule)
    await client.execute("delete from access.boards where board_id = :id", id=board)
    await client.publish_due()
    moved = await client.post(
        f"/v1/pins/{find_pin_id(schedule)}/retry", {"account_id": str(other), "board_id": "other"}
    )
    assert moved.status_code == 200
    async with serving(
        database_url,
        Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({workspace.account_id})),
    ) as http:
        narrow = Client(http, workspace, database)
        assert read_error(await narrow.post("/v1/schedules", body)) == (
            422,
            "idempotency_key_reused",
        )
    assert require_created(await client.post("/v1/schedules", body))["id"] == schedule["id"]


async def test_deleting_schedules_requires_the_destructive_scope(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    writer = Client(
        http, await make_workspace(database, scopes=(Scope.READ, Scope.WRITE)), database
    )
    schedule = await writer.create_schedule()
    assert read_error(await writer.delete(f"/v1/schedules/{schedule['id']}")) == (
        403,
        "insufficient_scope",
    )
    assert read_error(
        await writer.post("/v1/schedules/bulk-delete", {"ids": [schedule["id"]]})
    ) == (
        403,
        "insufficient_scope",
    )
    assert (await writer.post(f"/v1/schedules/{schedule['id']}/cancel")).status_code == 200


async def test_a_deleted_schedule_is_no_longer_due(client: Client, database: Database) -> None:
    await client.delete(f"/v1/schedules/{(await client.create_due_schedule())['id']}")
    query = text(
        "select count(*) as waiting from publisher.pins where state = 'scheduled' and deleted_at "
        "is not null"
    )
    row = await database.fetch_first(query)
    assert row == {"waiting": 0}
