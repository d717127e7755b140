"""POST /v1/pins with a key that has a pin: the answer, the comparison, and where the key may be."""

from uuid import uuid4

import pytest

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.conftest import (
    COMPARISON,
    Client,
    find_pin_id,
    read_error,
    require_created,
    serving,
)

KEY = "Idempotency-Key"


async def test_a_new_pin_has_no_comparison(client: Client) -> None:
    pin = require_created(await client.post("/v1/pins", client.pin()))
    assert (pin["payload_matches"], pin["differing_fields"]) == (None, None)
    read = (await client.get(f"/v1/pins/{pin['id']}")).json()
    assert set(pin) - set(read) == COMPARISON


async def test_a_taken_key_is_answered_with_its_pin_and_the_fields_that_differ(
    client: Client,
) -> None:
    body = client.pin(idempotency_key="k", related_terms=["a"])
    first = require_created(await client.post("/v1/pins", body))
    again = await client.post("/v1/pins", body)
    assert (again.headers["idempotent-replayed"], require_created(again)) == (
        "true",
        {**first, "payload_matches": True, "differing_fields": []},
    )
    changed = {**body, "title": "Other", "related_terms": ["b", "c"], "link_url": None}
    other = require_created(await client.post("/v1/pins", changed))
    assert other == {
        **first,
        "payload_matches": False,
        "differing_fields": [
            {"field": "title", "stored": "Autumn lamps", "sent": "Other"},
            {"field": "link_url", "stored": body["link_url"], "sent": None},
            {"field": "related_terms", "stored": "a", "sent": "b, c"},
        ],
    }
    assert await client.events(first["id"]) == ["published"]


async def test_a_pin_of_a_schedule_is_compared_as_it_is_now(client: Client) -> None:
    schedule = await client.create_failed_schedule(idempotency_key="k", title="First")
    pin_id = find_pin_id(schedule)
    await client.patch(f"/v1/pins/{pin_id}", {"title": "Edited"})
    body = client.pin(idempotency_key="k", title="Edited", board_id=schedule["payload"]["board_id"])
    pin = require_created(await client.post("/v1/pins", body))
    assert (pin["id"], pin["status"], pin["payload_matches"]) == (str(pin_id), "failed", False)
    (difference,) = pin["differing_fields"]
    assert (difference["field"], difference["sent"]) == ("run_at", None)


async def test_other_content_is_refused_on_request(client: Client) -> None:
    body = client.pin(idempotency_key="k")
    pin = require_created(await client.post("/v1/pins?on_mismatch=fail", body))
    again = await client.post("/v1/pins?on_mismatch=fail", body)
    assert require_created(again)["payload_matches"] is True
    refused = await client.post("/v1/pins?on_mismatch=fail", {**body, "title": "Other"})
    assert read_error(refused) == (422, "idempotency_key_reused")
    detail = refused.json()["detail"]
    assert detail["pin_id"] == pin["id"]
    assert detail["differing_fields"] == [
        {"field": "title", "stored": "Autumn lamps", "sent": "Other"}
    ]
    answer = await client.post("/v1/pins?on_mismatch=return", {**body, "title": "Other"})
    assert require_created(answer)["id"] == pin["id"]
    assert read_error(await client.post("/v1/pins?on_mismatch=ignore", body)) == (
        422,
        "invalid_parameter",
    )


async def test_the_key_may_be_in_the_header(client: Client) -> None:
    without_key = client.pin(idempotency_key=None)
    first = require_created(await client.post("/v1/pins", without_key, **{KEY: " é"}))
    assert first["idempotency_key"] == "é"
    for body, headers in (
        (without_key, {KEY: "é"}),
        ({**without_key, "idempotency_key": None}, {KEY: "é"}),
        ({**without_key, "idempotency_key": " é "}, {KEY: "é"}),
        ({**without_key, "idempotency_key": "é"}, {}),
    ):
        again = require_created(await client.post("/v1/pins", body, **headers))
        assert (again["id"], again["payload_matches"]) == (first["id"], True)


async def test_a_pin_without_any_key_is_refused(client: Client) -> None:
    answer = await client.post("/v1/pins", client.pin(idempotency_key=None))
    assert read_error(answer) == (422, "validation_error")
    assert [fault["field"] for fault in answer.json()["detail"]["errors"]] == ["idempotency_key"]


@pytest.mark.parametrize("path", ["/v1/pins", "/v1/pins?on_mismatch=fail", "/v1/schedules"])
async def test_invariant_10_nothing_of_a_pin_is_revealed_that_the_api_key_may_not_see(
    client: Client, workspace: Workspace, database: Database, database_url: str, path: str
) -> None:
    build = client.schedule if path == "/v1/schedules" else client.pin
    hidden = require_created(await client.post(path, build(idempotency_key="k", title="Secret")))
    own = await workspace.add_account("own")
    principal = Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({own}))
    async with serving(database_url, principal) as http:
        narrow = Client(http, workspace, database)
        body = {**build(idempotency_key="k"), "account_id": str(own), "board_id": "own"}
        answer = await narrow.post(path, body)
    code = "idempotency_key_reused" if path == "/v1/schedules" else "idempotency_conflict"
    assert answer.json()["detail"].keys() == {"code", "message", "help"}
    assert answer.json()["detail"]["code"] == code
    assert "Secret" not in answer.text
    assert hidden["id"] not in answer.text
