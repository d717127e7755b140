"""Commands on pins and schedules that are on their way to Pinterest, and their statuses."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from shared.postgres.database import Database
from tests.integration.conftest import make_workspace
from tests.integration.publisher.conftest import (
    Client,
    find_pin_id,
    in_future,
    read_bulk_results,
    read_error,
    serving,
)
from tests.integration.publisher.connected import ConnectedClient
from tests.support.factories import BOARD
from tests.support.waiting import eventually

SENDING = ("publishing", "confirming")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database_url, pinterest_mode="simulated") as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def connected(client: Client, database: Database) -> ConnectedClient:
    return await ConnectedClient.connect(client, database)


async def read_pin(client: Client, pin_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/pins/{pin_id}")
    assert answer.status_code == 200, answer.text
    pin: dict[str, Any] = answer.json()
    return pin


async def read_job(client: Client, pin_id: str) -> dict[str, Any]:
    job: dict[str, Any] = (await client.get(f"/v1/jobs/{pin_id}")).json()
    return job


# Statuses


async def test_a_pin_shows_its_way_to_pinterest(client: Client, connected: ConnectedClient) -> None:
    pin_id = await connected.queue()
    seen = [(await read_pin(client, pin_id))["status"]]
    for state in SENDING:
        await connected.set_state(pin_id, state)
        seen.append((await read_pin(client, pin_id))["status"])
    await connected.set_published(pin_id, "813744226420795884")
    pin, job = await read_pin(client, pin_id), await read_job(client, pin_id)
    assert [*seen, pin["status"]] == ["queued", "publishing", "publishing", "published"]
    assert (pin["delivery"], pin["pinterest_pin_id"]) == ("pinterest", "813744226420795884")
    assert (job["status"], job["pinterest_pin_id"]) == ("published", "813744226420795884")
    assert job["completed_at"] == pin["published_at"]


async def test_a_pin_of_an_account_that_was_never_connected_is_published_at_once(
    client: Client,
) -> None:
    pin = await client.publish_pin(image_url="https://cdn.example/lamps.mp4")
    assert (pin["status"], pin["delivery"], pin["media_type"]) == ("published", "none", "image")
    assert (pin["pinterest_pin_id"], pin["deferred_until"]) == (None, None)


@pytest.mark.parametrize(
    ("image_url", "media_type"),
    [
        ("https://cdn.example/lamps.jpg", "image"),
        ("https://cdn.example/lamps.MP4?size=1", "video"),
        ("https://cdn.example/lamps.mov", "video"),
        ("https://cdn.example/lamps.jpg?as=.m4v", "image"),
    ],
)
async def test_a_video_is_known_by_the_end_of_its_path(
    client: Client, connected: ConnectedClient, image_url: str, media_type: str
) -> None:
    pin = await read_pin(client, await connected.queue(image_url=image_url))
    assert pin["media_type"] == media_type


async def test_a_pin_is_deferred_while_its_account_is_paused(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.queue()
    await connected.pause("token_revoked")
    pin, job = await read_pin(client, pin_id), await read_job(client, pin_id)
    assert (pin["status"], pin["error_code"]) == ("deferred", "token_revoked")
    assert (job["status"], job["error_code"]) == ("deferred", "token_revoked")
    assert pin["error_message"] == "Wait. After that, it is sent within a minute."
    assert datetime.fromisoformat(pin["deferred_until"]) > datetime.now(UTC)
    await connected.pause(seconds=-1)
    after = await read_pin(client, pin_id)
    assert (after["status"], after["error_code"], after["deferred_until"]) == ("queued", None, None)


async def test_a_pin_whose_answer_was_lost_says_that_pinterest_is_asked(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.queue()
    await connected.set_state(pin_id, "publishing")
    assert (await read_pin(client, pin_id))["error_message"] is None
    await connected.set_state(pin_id, "confirming")
    for document in (await read_pin(client, pin_id), await read_job(client, pin_id)):
        assert (document["status"], document["error_code"]) == ("publishing", None)
        assert document["error_message"].startswith(
            "Pinflow is asking Pinterest whether it has this pin, because an answer was lost."
        )


async def test_a_pin_is_deferred_by_its_own_image_and_by_the_app(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id, other = await connected.queue(), await connected.queue()
    await client.execute(
        "update publisher.pins set deliver_after = now() + interval '1 hour', "
        "deferral_code = 'media_unreachable' where pin_id = :id",
        id=pin_id,
    )
    assert (await read_pin(client, pin_id))["error_code"] == "media_unreachable"
    assert (await read_pin(client, other))["status"] == "queued"
    set_app = (
        "insert into publisher.delivery_apps (mode, paused_until, pause_code, pause_message) "
        "values (:mode, now() + interval '1 minute', 'pinterest_unavailable', 'Down.') "
    )
    try:
        await client.execute(set_app, mode="production")
        assert (await read_pin(client, other))["status"] == "queued"  # the pause of another mode
        await client.execute(set_app, mode="simulated")
        assert (await read_pin(client, other))["error_code"] == "pinterest_unavailable"
    finally:
        await client.execute("delete from publisher.delivery_apps")


# Edits


async def test_a_queued_or_deferred_pin_can_be_edited(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.queue()
    edited = await client.patch(f"/v1/pins/{pin_id}", {"title": "Corrected"})
    assert (edited.status_code, edited.json()["title"]) == (200, "Corrected")
    await connected.pause()
    edited = await client.patch(f"/v1/pins/{pin_id}", {"description": None})
    assert (edited.status_code, edited.json()["status"]) == (200, "deferred")
    unknown = await client.patch(f"/v1/pins/{pin_id}", {"board_id": "404"})
    assert read_error(unknown) == (422, "board_not_found")


@pytest.mark.parametrize("state", SENDING)
async def test_invariant_12_a_pin_that_is_being_sent_cannot_be_changed(
    client: Client, connected: ConnectedClient, state: str
) -> None:
    pin_id = await connected.queue()
    await connected.set_state(pin_id, state)
    answers = [
        await client.patch(f"/v1/pins/{pin_id}", {"title": "Too late"}),
        await client.delete(f"/v1/pins/{pin_id}"),
        await client.delete(f"/v1/pins/{pin_id}?delete_from_pinterest=true"),
        await client.post(f"/v1/pins/{pin_id}/retry"),
    ]
    assert [read_error(answer) for answer in answers] == [(409, "pin_publishing")] * 4
    assert all("Try again when" in answer.json()["detail"]["message"] for answer in answers)
    bulk = await client.post("/v1/pins/bulk-delete", {"ids": [pin_id]})
    assert read_bulk_results(bulk) == [("skipped", "pin_publishing")]


# Schedules


async def create_queued_schedule(client: Client, connected: ConnectedClient) -> dict[str, Any]:
    schedule = await client.create_schedule()
    await client.execute(
        "update publisher.pins set run_at = now() - interval '1 second', state = 'queued' "
        "where pin_id = :id",
        id=find_pin_id(schedule),
    )
    return schedule


async def read_schedule(client: Client, schedule: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/v1/schedules/{schedule['id']}")).json()
    return found


async def test_a_schedule_shows_the_way_of_its_pin(
    client: Client, connected: ConnectedClient
) -> None:
    schedule = await create_queued_schedule(client, connected)
    pin_id = find_pin_id(schedule)
    seen = [(await read_schedule(client, schedule))["status"]]
    await connected.pause("rate_limited")
    deferred = await read_schedule(client, schedule)
    assert deferred["last_error"].startswith("Wait.")
    await connected.pause(seconds=-1)
    for state in SENDING:
        await connected.set_state(pin_id, state)
        seen.append((await read_schedule(client, schedule))["status"])
    await connected.set_published(pin_id, f"at-{pin_id}")
    done = await read_schedule(client, schedule)
    assert [*seen, deferred["status"], done["status"], done["pin_id"]] == [
        "queued",
        "running",
        "running",
        "deferred",
        "done",
        str(pin_id),
    ]


async def test_a_queued_schedule_is_canceled_and_not_sent(
    client: Client, connected: ConnectedClient
) -> None:
    schedule = await create_queued_schedule(client, connected)
    canceled = await client.post(f"/v1/schedules/{schedule['id']}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    retried = await client.post(f"/v1/schedules/{schedule['id']}/retry")
    assert retried.json()["status"] == "queued"  # due: the scheduler queues it for its delivery


async def test_a_schedule_that_is_being_sent_is_neither_canceled_nor_deleted(
    client: Client, connected: ConnectedClient
) -> None:
    schedule = await create_queued_schedule(client, connected)
    await connected.set_state(find_pin_id(schedule), "publishing")
    path = f"/v1/schedules/{schedule['id']}"
    assert read_error(await client.post(f"{path}/cancel")) == (409, "pin_publishing")
    assert read_error(await client.delete(path)) == (409, "pin_publishing")
    assert (await client.post(f"{path}/retry")).json()["status"] == "running"
    edited = await client.patch(path, {"run_at": in_future()})
    assert read_error(edited) == (409, "schedule_not_pending")


async def test_a_deleted_queued_pin_leaves_the_queue(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    pin_id = await connected.queue()
    schedule = await create_queued_schedule(client, connected)
    assert (await client.delete(f"/v1/pins/{pin_id}")).status_code == 204
    assert (await client.delete(f"/v1/schedules/{schedule['id']}")).status_code == 204
    (backlog,) = (await client.get("/v1/deliveries")).json()
    assert backlog["queued_count"] == 0


# Retries


async def test_a_failed_pin_is_queued_again(client: Client, connected: ConnectedClient) -> None:
    pin_id = await connected.queue()
    await connected.fail(pin_id)
    retried = await client.post(f"/v1/pins/{pin_id}/retry")
    pin = retried.json()
    assert (retried.status_code, pin["status"], pin["error_code"]) == (200, "queued", None)
    assert await client.events(pin_id) == ["queued", "queued"]
    assert read_error(await client.post(f"/v1/pins/{pin_id}/retry")) == (409, "pin_not_failed")


async def test_a_retry_of_a_deferred_pin_says_until_when_and_why(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.queue()
    await client.execute(
        "update publisher.pins set deliver_after = '2099-01-01T10:00:00Z', "
        "deferral_code = 'media_unreachable' where pin_id = :id",
        id=pin_id,
    )
    refused = await client.post(f"/v1/pins/{pin_id}/retry")
    assert read_error(refused) == (409, "pin_not_failed")
    message = refused.json()["detail"]["message"]
    assert "could not be fetched" in message
    assert "does not send it before 2099-01-01T10:00:00Z" in message


async def test_invariant_12_a_pin_that_may_be_on_pinterest_is_retried_only_on_demand(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.queue(title="Unconfirmed lamp")
    await connected.fail(pin_id, "publish_unconfirmed")
    refused = await client.post(f"/v1/pins/{pin_id}/retry")
    assert read_error(refused) == (409, "publish_unconfirmed")
    message = refused.json()["detail"]["message"]
    assert all(text in message for text in ("Unconfirmed lamp", BOARD, "may_double=true"))
    bulk = await client.post("/v1/pins/bulk-retry", {"ids": [pin_id]})
    assert read_bulk_results(bulk) == [("failed", "publish_unconfirmed")]
    retried = await client.post(f"/v1/pins/{pin_id}/retry?may_double=true")
    assert (retried.status_code, retried.json()["status"]) == (200, "queued")


async def test_an_unconfirmed_schedule_is_retried_only_on_demand(
    client: Client, connected: ConnectedClient
) -> None:
    schedule = await create_queued_schedule(client, connected)
    await connected.fail(find_pin_id(schedule), "publish_unconfirmed")
    path = f"/v1/schedules/{schedule['id']}/retry"
    assert read_error(await client.post(path)) == (409, "publish_unconfirmed")
    assert (await client.post(f"{path}?may_double=true")).json()["status"] == "queued"


async def test_a_retry_changes_to_an_account_of_the_same_kind_only(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    unconnected = await client.workspace.add_account(BOARD)
    pin_id = await connected.queue()
    await connected.fail(pin_id)
    target = {"account_id": str(unconnected), "board_id": BOARD}
    refused = await client.post(f"/v1/pins/{pin_id}/retry", target)
    assert read_error(refused) == (422, "validation_error")
    assert "was never connected" in refused.json()["detail"]["message"]
    schedule = await client.create_schedule(account_id=str(unconnected))
    await client.make_due(schedule)
    other_id = find_pin_id(schedule)
    await connected.fail(other_id)
    target = {"account_id": str(connected.account_id), "board_id": BOARD}
    refused = await client.post(f"/v1/pins/{other_id}/retry", target)
    assert read_error(refused) == (422, "validation_error")
    assert "with a different key" in refused.json()["detail"]["message"]


# Deletions


@pytest.mark.parametrize("is_paused_for_new_pins", [False, True])
async def test_a_published_pin_is_removed_from_pinterest(
    client: Client, connected: ConnectedClient, *, is_paused_for_new_pins: bool
) -> None:
    made_id = f"8137442264207958{int(is_paused_for_new_pins)}"
    pin_id = await connected.publish(made_id)
    if is_paused_for_new_pins:
        await connected.pause("quota_exceeded")
    deletion = asyncio.ensure_future(client.delete(f"/v1/pins/{pin_id}?delete_from_pinterest=true"))

    async def is_requested() -> bool:
        await connected.settle_removal(pin_id)
        return deletion.done()

    await eventually(is_requested)
    assert (await deletion).json() == {
        "id": pin_id,
        "deleted": True,
        "removed_from_pinterest": True,
        "pinterest_pin_id": made_id,
        "reason": None,
    }
    again = await client.delete(f"/v1/pins/{pin_id}?delete_from_pinterest=true")
    assert again.json()["removed_from_pinterest"] is True
    assert (await client.delete(f"/v1/pins/{pin_id}")).status_code == 404


async def test_a_pin_that_was_deleted_in_pinflow_only_can_be_removed_later(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.publish()
    assert (await client.delete(f"/v1/pins/{pin_id}")).status_code == 204
    await connected.pause("rate_limited")
    answer = (await client.delete(f"/v1/pins/{pin_id}?delete_from_pinterest=true")).json()
    assert (answer["removed_from_pinterest"], answer["deleted"]) == (False, True)
    assert answer["reason"].startswith("The pin will be removed when the pause of its account ends")
    await connected.settle_removal(pin_id, "refused", "Pinterest refused: no right.")
    await connected.pause(seconds=-1)
    await client.execute(
        "update access.connections set disconnected_at = now() where account_id = :id",
        id=connected.account_id,
    )
    answer = (await client.delete(f"/v1/pins/{pin_id}?delete_from_pinterest=true")).json()
    assert answer["reason"].startswith("The pin will be removed when its account is connected")


async def test_a_refused_removal_says_what_pinterest_said(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.publish()
    await client.delete(f"/v1/pins/{pin_id}")
    deletion = asyncio.ensure_future(client.delete(f"/v1/pins/{pin_id}?delete_from_pinterest=true"))

    async def is_refused() -> bool:
        await connected.settle_removal(pin_id, "refused", "Pinterest refused: no right.")
        return deletion.done()

    await eventually(is_refused)
    reason = (await deletion).json()["reason"]
    assert reason == (
        "Pinterest refused: no right. Send the same request again to try it once more."
    )


async def test_a_pin_that_was_never_sent_has_nothing_to_remove(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.queue()
    answer = await client.delete(f"/v1/pins/{pin_id}?delete_from_pinterest=true")
    assert answer.json()["reason"].startswith("Pinflow has not sent this pin")
    unconfirmed = await connected.queue()
    await connected.fail(unconfirmed, "publish_unconfirmed")
    answer = await client.delete(f"/v1/pins/{unconfirmed}?delete_from_pinterest=true")
    assert f"on the board {BOARD} at Pinterest" in answer.json()["reason"]


async def test_invariant_10_nobody_else_removes_a_deleted_pin(
    client: Client, connected: ConnectedClient, database: Database, http: httpx.AsyncClient
) -> None:
    pin_id = await connected.publish()
    await client.delete(f"/v1/pins/{pin_id}")
    stranger = Client(http, await make_workspace(database), database)
    path = f"/v1/pins/{pin_id}?delete_from_pinterest=true"
    assert read_error(await stranger.delete(path)) == (404, "not_found")
    limited = await client.workspace.create_limited_key(await client.workspace.add_account())
    answer = await client.send("DELETE", path, **{"X-API-Key": limited})
    assert read_error(answer) == (404, "not_found")
    assert read_error(await client.delete(f"/v1/pins/{uuid4()}?delete_from_pinterest=true")) == (
        404,
        "not_found",
    )
