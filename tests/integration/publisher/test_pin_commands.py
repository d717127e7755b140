"""Commands on existing pins: edit, delete and retry, single and in bulk."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.publisher.conftest import (
    Client,
    find_pin_id,
    read_bulk_results,
    read_error,
    serving,
)
from tests.support.connections import record_connection
from tests.support.factories import BOARD


async def test_a_failed_pin_is_corrected_and_published(client: Client) -> None:
    schedule = await client.create_failed_schedule()
    pin_id = find_pin_id(schedule)
    edited = await client.patch(f"/v1/pins/{pin_id}", {"board_id": BOARD, "title": "Corrected"})
    assert (edited.status_code, edited.json()["status"], edited.json()["error_code"]) == (
        200,
        "failed",
        "board_not_found",
    )
    retried = await client.post(f"/v1/pins/{pin_id}/retry")
    assert (retried.status_code, retried.json()["status"], retried.json()["error_code"]) == (
        200,
        "published",
        None,
    )
    pin = (await client.get(f"/v1/pins/{pin_id}")).json()
    assert pin == retried.json()
    assert (pin["title"], pin["board_id"]) == ("Corrected", BOARD)
    assert await client.events(pin_id) == ["scheduled", "failed", "published"]
    done = (await client.get(f"/v1/schedules/{schedule['id']}")).json()
    assert (done["status"], done["pin_id"], done["last_error"]) == ("done", str(pin_id), None)


async def test_an_edit_changes_only_the_sent_fields_and_null_clears(client: Client) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule(alt_text="A lamp", title="Before"))
    changes = {
        "description": None,
        "alt_text": None,
        "link_url": "https://shop.example/new",
    }
    pin = (await client.patch(f"/v1/pins/{pin_id}", changes)).json()
    assert (pin["description"], pin["alt_text"], pin["link_url"], pin["title"]) == (
        None,
        None,
        "https://shop.example/new",
        "Before",
    )
    assert pin["updated_at"] > pin["created_at"]


async def test_a_due_pin_can_still_be_edited(client: Client) -> None:
    pin_id = find_pin_id(await client.create_due_schedule())
    assert (await client.patch(f"/v1/pins/{pin_id}", {"title": "In time"})).json()[
        "status"
    ] == "queued"
    await client.publish_due()
    pin = (await client.get(f"/v1/pins/{pin_id}")).json()
    assert (pin["status"], pin["title"]) == ("published", "In time")


async def test_a_published_pin_cannot_be_edited(client: Client) -> None:
    pin = await client.publish_pin()
    assert read_error(await client.patch(f"/v1/pins/{pin['id']}", {"title": "Late"})) == (
        409,
        "pin_already_published",
    )


async def test_a_schedule_that_is_not_due_has_no_pin_yet(client: Client) -> None:
    pin_id = find_pin_id(await client.create_schedule())
    for answer in (
        await client.get(f"/v1/pins/{pin_id}"),
        await client.get(f"/v1/jobs/{pin_id}"),
        await client.patch(f"/v1/pins/{pin_id}", {"title": "Early"}),
        await client.delete(f"/v1/pins/{pin_id}"),
        await client.post(f"/v1/pins/{pin_id}/retry"),
    ):
        assert read_error(answer) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_payload"),
        ({"x": 1}, "unknown_field"),
        ({"title": "New", "idempotency_key": "k"}, "validation_error"),
        ([], "invalid_payload"),
        ({"title": ""}, "validation_error"),
        ({"title": None}, "validation_error"),
        ({"title": "x" * 101}, "validation_error"),
        ({"title": "a\0b"}, "validation_error"),
        ({"board_id": None}, "validation_error"),
        ({"board_id": 7}, "validation_error"),
        ({"description": "x" * 801}, "validation_error"),
        ({"alt_text": ["x"]}, "validation_error"),
        ({"link_url": "ftp://shop.example"}, "validation_error"),
        ({"board_id": "nowhere"}, "board_not_found"),
        ({"board_id": "a\0b"}, "validation_error"),
    ],
)
async def test_an_invalid_edit_changes_nothing(client: Client, body: Any, code: str) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule())
    before = (await client.get(f"/v1/pins/{pin_id}")).json()
    assert read_error(await client.patch(f"/v1/pins/{pin_id}", body)) == (422, code)
    assert (await client.get(f"/v1/pins/{pin_id}")).json() == before


async def test_a_field_that_an_edit_cannot_change_is_refused_by_name(client: Client) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule())
    before = (await client.get(f"/v1/pins/{pin_id}")).json()
    changes = {"title": "New", "run_at": "2031-01-01T00:00:00Z", "titel": "x", "status": "queued"}
    answer = await client.patch(f"/v1/pins/{pin_id}", changes)
    assert read_error(answer) == (422, "unknown_field")
    faults = {fault["field"]: fault for fault in answer.json()["detail"]["errors"]}
    assert {field: fault["code"] for field, fault in faults.items()} == {
        "run_at": "not_editable",
        "titel": "unknown_field",
        "status": "not_editable",
    }
    assert "Did you mean title?" in faults["titel"]["message"]
    assert (await client.get(f"/v1/pins/{pin_id}")).json() == before


async def test_all_faults_of_an_edit_are_reported_together(client: Client) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule())
    detail = (await client.patch(f"/v1/pins/{pin_id}", {"title": "", "link_url": "x"})).json()[
        "detail"
    ]
    assert [fault["field"] for fault in detail["errors"]] == ["title", "link_url"]


async def test_invariant_3_a_deleted_pins_key_stays_taken(client: Client) -> None:
    pin = await client.publish_pin(idempotency_key="once")
    deleted = await client.delete(f"/v1/pins/{pin['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    again = await client.post("/v1/pins", client.pin(idempotency_key="once"))
    assert read_error(again) == (409, "pin_deleted")
    assert await client.events(pin["id"]) == ["published"]


async def test_a_deleted_pin_is_not_found(client: Client) -> None:
    schedule = await client.create_failed_schedule()
    pin_id = find_pin_id(schedule)
    assert (await client.delete(f"/v1/pins/{pin_id}")).status_code == 204
    for answer in (
        await client.delete(f"/v1/pins/{pin_id}"),
        await client.get(f"/v1/pins/{pin_id}"),
        await client.get(f"/v1/jobs/{pin_id}"),
        await client.patch(f"/v1/pins/{pin_id}", {"title": "Gone"}),
        await client.post(f"/v1/pins/{pin_id}/retry"),
        await client.get(f"/v1/schedules/{schedule['id']}"),
        await client.post(f"/v1/schedules/{schedule['id']}/retry"),
    ):
        assert read_error(answer) == (404, "not_found")
    assert (await client.get("/v1/pins")).json() == []


async def test_a_deletion_reports_on_request_whether_pinterest_removed_the_pin(
    client: Client,
) -> None:
    pin = await client.publish_pin()
    answer = await client.delete(f"/v1/pins/{pin['id']}?delete_from_pinterest=true")
    body = answer.json()
    assert (answer.status_code, body["id"], body["deleted"], body["removed_from_pinterest"]) == (
        200,
        pin["id"],
        True,
        False,
    )
    assert body["reason"]
    assert read_error(await client.delete(f"/v1/pins/{pin['id']}?delete_from_pinterest=x")) == (
        422,
        "invalid_parameter",
    )


async def test_a_due_pin_that_is_deleted_is_never_published(client: Client) -> None:
    pin_id = find_pin_id(await client.create_due_schedule())
    assert (await client.delete(f"/v1/pins/{pin_id}")).status_code == 204
    await client.publish_due()
    assert await client.events(pin_id) == ["scheduled"]


async def test_a_retry_without_its_board_is_refused_and_changes_nothing(client: Client) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule())
    before = (await client.get(f"/v1/pins/{pin_id}")).json()
    assert read_error(await client.post(f"/v1/pins/{pin_id}/retry")) == (422, "board_not_found")
    assert (await client.get(f"/v1/pins/{pin_id}")).json() == before
    assert await client.events(pin_id) == ["scheduled", "failed"]


async def test_a_retry_may_go_to_another_account_and_board(client: Client) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule())
    account_id = await client.workspace.add_account("another")
    pin = (
        await client.post(
            f"/v1/pins/{pin_id}/retry", {"account_id": str(account_id), "board_id": "another"}
        )
    ).json()
    assert (pin["status"], pin["pinterest_account_id"], pin["board_id"]) == (
        "published",
        str(account_id),
        "another",
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"board_id": "nowhere"}, "board_not_found"),
        ({"board_id": "a\0b"}, "board_not_found"),
        ({"account_id": str(uuid4())}, "account_not_found"),
        ({"account_id": "x"}, "validation_error"),
        ({"board_id": ""}, "validation_error"),
        ([], "invalid_payload"),
        ("x", "invalid_payload"),
    ],
)
async def test_an_invalid_retry_is_refused(client: Client, body: Any, code: str) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule())
    assert read_error(await client.post(f"/v1/pins/{pin_id}/retry", body)) == (422, code)


async def test_only_a_failed_pin_can_be_retried(client: Client) -> None:
    due, pin = find_pin_id(await client.create_due_schedule()), await client.publish_pin()
    assert read_error(await client.post(f"/v1/pins/{due}/retry", {})) == (409, "pin_not_failed")
    assert read_error(await client.post(f"/v1/pins/{pin['id']}/retry", {})) == (
        409,
        "pin_already_published",
    )


async def test_invariant_3_concurrent_retries_publish_once(client: Client) -> None:
    pin_id = find_pin_id(await client.create_failed_schedule())
    answers = await asyncio.gather(
        *(client.post(f"/v1/pins/{pin_id}/retry", {"board_id": BOARD}) for _ in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 9]
    assert await client.events(pin_id) == ["scheduled", "failed", "published"]


async def test_a_pins_job_reports_its_progress(client: Client) -> None:
    pin, due, failed = (
        await client.publish_pin(),
        find_pin_id(await client.create_due_schedule()),
        None,
    )
    jobs = [(await client.get(f"/v1/jobs/{pin_id}")).json() for pin_id in (pin["id"], due)]
    failed = find_pin_id(
        await client.create_failed_schedule()
    )  # created last, because it runs the scheduler
    jobs.append((await client.get(f"/v1/jobs/{failed}")).json())
    assert [(job["status"], job["completed_at"] is None) for job in jobs] == [
        ("published", False),
        ("queued", True),
        ("failed", False),
    ]
    assert (jobs[0]["job_id"], jobs[0]["pin_id"], jobs[0]["submitted_at"]) == (
        pin["id"],
        pin["id"],
        pin["created_at"],
    )
    assert jobs[2]["error_code"] == "board_not_found"


async def test_a_bulk_delete_decides_each_pin_separately(client: Client) -> None:
    pins = [await client.publish_pin() for _ in range(3)]
    waiting = find_pin_id(await client.create_schedule())
    ids = [pins[0]["id"], str(uuid4()), pins[1]["id"], pins[0]["id"], str(waiting)]
    assert read_bulk_results(await client.post("/v1/pins/bulk-delete", {"ids": ids})) == [
        ("succeeded", None),
        ("failed", "not_found"),
        ("succeeded", None),
        ("skipped", "duplicate_id"),
        ("failed", "not_found"),
    ]
    assert [pin["id"] for pin in (await client.get("/v1/pins")).json()] == [pins[2]["id"]]


async def test_a_bulk_retry_decides_each_pin_separately(client: Client) -> None:
    corrected, failed = (
        find_pin_id(await client.create_failed_schedule()),
        find_pin_id(await client.create_failed_schedule()),
    )
    await client.patch(f"/v1/pins/{corrected}", {"board_id": BOARD})
    pin, due = await client.publish_pin(), find_pin_id(await client.create_due_schedule())
    ids = [str(pin_id) for pin_id in (corrected, failed, pin["id"], due, uuid4())]
    assert read_bulk_results(await client.post("/v1/pins/bulk-retry", {"ids": ids})) == [
        ("succeeded", None),
        ("failed", "board_not_found"),
        ("skipped", "pin_already_published"),
        ("skipped", "pin_not_failed"),
        ("failed", "not_found"),
    ]
    assert await client.events(corrected) == ["scheduled", "failed", "published"]


@pytest.mark.parametrize(
    "path", ["/v1/pins/bulk-delete", "/v1/pins/bulk-retry", "/v1/schedules/bulk-cancel"]
)
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"ids": []}, "empty_batch"),
        ({"ids": [str(uuid4())] * 101}, "too_many_ids"),
        ({"ids": ["x"]}, "validation_error"),
        ({"ids": [1]}, "validation_error"),
        ({"ids": "x"}, "invalid_payload"),
        ({}, "invalid_payload"),
        ([], "invalid_payload"),
    ],
)
async def test_an_invalid_list_of_ids_is_refused_completely(
    client: Client, path: str, body: Any, code: str
) -> None:
    assert read_error(await client.post(path, body)) == (422, code)


async def test_invariant_10_another_workspaces_pins_do_not_exist(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    pin, failed = await client.publish_pin(), find_pin_id(await client.create_failed_schedule())
    other = Client(http, await make_workspace(database), database)
    for answer in (
        await other.get(f"/v1/jobs/{pin['id']}"),
        await other.patch(f"/v1/pins/{failed}", {"title": "Theirs"}),
        await other.post(f"/v1/pins/{failed}/retry", {"board_id": BOARD}),
        await other.delete(f"/v1/pins/{pin['id']}"),
    ):
        assert read_error(answer) == (404, "not_found")
    ids = {"ids": [pin["id"], str(failed)]}
    for path in ("/v1/pins/bulk-delete", "/v1/pins/bulk-retry"):
        assert read_bulk_results(await other.post(path, ids)) == [("failed", "not_found")] * 2
    assert (await client.get(f"/v1/pins/{pin['id']}")).json() == pin


async def test_deleting_pins_requires_the_destructive_scope(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    writer = Client(
        http, await make_workspace(database, scopes=(Scope.READ, Scope.WRITE)), database
    )
    pin = await writer.publish_pin()
    for answer in (
        await writer.delete(f"/v1/pins/{pin['id']}"),
        await writer.post("/v1/pins/bulk-delete", {"ids": [pin["id"]]}),
    ):
        assert read_error(answer) == (403, "insufficient_scope")
    assert (await writer.get(f"/v1/pins/{pin['id']}")).status_code == 200


async def test_a_key_sees_and_changes_only_pins_of_its_accounts(
    client: Client, workspace: Workspace, database: Database, database_url: str
) -> None:
    hidden, failed = (
        await client.publish_pin(idempotency_key="hidden"),
        find_pin_id(await client.create_failed_schedule()),
    )
    own = await workspace.add_account("own")
    principal = Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({own}))
    async with serving(database_url, principal) as http:
        narrow = Client(http, workspace, database)
        for answer in (
            await narrow.get(f"/v1/pins/{hidden['id']}"),
            await narrow.get(f"/v1/jobs/{hidden['id']}"),
            await narrow.delete(f"/v1/pins/{hidden['id']}"),
            await narrow.patch(f"/v1/pins/{failed}", {"title": "Theirs"}),
            await narrow.post(f"/v1/pins/{failed}/retry"),
        ):
            assert read_error(answer) == (404, "not_found")
        assert read_error(await narrow.post("/v1/pins", narrow.pin())) == (
            403,
            "account_not_permitted",
        )
        to_hidden = {"account_id": str(workspace.account_id)}
        assert read_error(await narrow.post(f"/v1/pins/{failed}/retry", to_hidden)) == (
            403,
            "account_not_permitted",
        )
        # Keys belong to the workspace, so this one is taken. The answer must not reveal its pin
        taken = await narrow.post(
            "/v1/pins", narrow.pin(account_id=str(own), board_id="own", idempotency_key="hidden")
        )
        assert read_error(taken) == (409, "idempotency_conflict")
        assert "may not see" in taken.json()["detail"]["message"]
        assert hidden["id"] not in taken.text
        assert (await narrow.publish_pin(account_id=str(own), board_id="own"))[
            "status"
        ] == "published"


@pytest.mark.parametrize("is_connected", [False, True])
async def test_a_board_given_by_its_name_is_answered_with_its_id(
    client: Client, database: Database, *, is_connected: bool
) -> None:
    message = (
        f"board_id: lamps is the name of a board. Send its id, {BOARD}; names work only in imports."
    )
    pin_id = find_pin_id(await client.create_failed_schedule())
    by_name = {"board_id": "lamps"}
    schedule = await client.create_schedule()
    if is_connected:
        await record_connection(database, client.workspace.id, client.workspace.account_id)
    for answer in (
        await client.post("/v1/pins", client.pin(**by_name)),
        await client.post("/v1/schedules", client.schedule(**by_name)),
        await client.patch(f"/v1/pins/{pin_id}", by_name),
        await client.patch(f"/v1/schedules/{schedule['id']}", by_name),
        await client.post(f"/v1/pins/{pin_id}/retry", by_name),
    ):
        assert read_error(answer) == (422, "board_not_found")
        assert answer.json()["detail"]["message"] == message
    batch = await client.post("/v1/pins/batch", {"pins": [client.pin(**by_name)]})
    assert batch.json()["results"][0]["error"]["message"] == message
    report = (await client.post("/v1/pins/validate", client.pin(**by_name))).json()
    checks = {check["name"]: check for check in report["checks"]}
    assert (checks["board"]["code"], checks["board"]["message"]) == ("board_not_found", message)
