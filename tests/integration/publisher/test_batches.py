"""Batches of pins: each pin gets the result of a single call."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.conftest import Client, read_error, serving
from tests.support.factories import BOARD


async def publish_batch(client: Client, *pins: Any) -> dict[str, Any]:
    answer = await client.post("/v1/pins/batch", {"pins": list(pins)})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    statuses = [result["status"] for result in body["results"]]
    assert [body[f"{status}_count"] for status in ("created", "existing", "failed")] == [
        statuses.count(status) for status in ("created", "existing", "failed")
    ]
    assert [result["index"] for result in body["results"]] == list(range(len(pins)))
    return body


def read_results(body: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [
        (result["status"], result["error"] and result["error"]["code"])
        for result in body["results"]
    ]


async def test_a_batch_of_a_hundred_is_published_in_its_order(client: Client) -> None:
    pins = [
        client.pin(related_terms=["lamp", "light"], dominant_color="#abcdef") for _ in range(100)
    ]
    body = await publish_batch(client, *pins)
    assert (body["created_count"], body["headroom"]) == (100, None)
    listed = (await client.get("/v1/pins?limit=200")).json()
    assert listed == [result["pin"] for result in reversed(body["results"])]
    assert [pin["idempotency_key"] for pin in reversed(listed)] == [
        pin["idempotency_key"] for pin in pins
    ]
    assert (listed[0]["related_terms"], listed[0]["dominant_color"], listed[0]["status"]) == (
        ["lamp", "light"],
        "#ABCDEF",
        "published",
    )
    assert await client.events(listed[7]["id"]) == ["published"]


@pytest.mark.parametrize("letter", ["x", "日", "😀"])
async def test_the_longest_batch_is_accepted(
    client: Client, http: httpx.AsyncClient, workspace: Workspace, letter: str
) -> None:
    board, url = letter * 255, f"https://cdn.example/{letter}".ljust(2048, letter)
    await workspace.operator.add_board(workspace.id, workspace.account_id, board, name="Long")
    longest = client.pin(
        board_id=board,
        title=letter * 100,
        description=letter * 800,
        alt_text=letter * 500,
        link_url=url,
        image_url=url,
        cover_image_url=url,
        related_terms=[letter * 100] * 50,
        dominant_color="#ABCDEF",
    )
    pins = [{**longest, "idempotency_key": f"{number}".ljust(255, letter)} for number in range(100)]
    # A character outside the basic plane is two escapes. Escaped, the body would be too long
    content = json.dumps({"pins": pins}, ensure_ascii=letter <= "\uffff").encode()
    answer = await http.post(
        "/v1/pins/batch",
        content=content,
        headers={**workspace.headers, "Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json().get("created_count")) == (200, 100)


async def test_a_batch_creates_the_same_pins_as_single_calls(client: Client) -> None:
    alone = await client.publish_pin(title="Same")
    (result,) = (await publish_batch(client, client.pin(title="Same")))["results"]
    varying = {"id", "idempotency_key", "created_at", "updated_at", "published_at"}
    assert {name: value for name, value in result["pin"].items() if name not in varying} == {
        name: value for name, value in alone.items() if name not in varying
    }


async def test_invariant_3_a_batch_sent_again_creates_nothing(client: Client) -> None:
    pins = [client.pin() for _ in range(3)]
    first = await publish_batch(client, *pins)
    again = await publish_batch(client, *pins)
    assert read_results(again) == [("existing", None)] * 3
    assert [result["pin"] for result in again["results"]] == [
        result["pin"] for result in first["results"]
    ]
    assert [result["payload_matches"] for result in again["results"]] == [True] * 3
    assert await client.events(first["results"][0]["pin"]["id"]) == ["published"]


async def test_a_fault_fails_only_its_item(client: Client) -> None:
    deleted = await client.publish_pin(idempotency_key="deleted")
    await client.delete(f"/v1/pins/{deleted['id']}")
    scheduled = await client.create_schedule(idempotency_key="scheduled")
    body = await publish_batch(
        client,
        client.pin(),
        client.pin(title="", dominant_color="red", idempotency_key="wrong"),
        7,
        {},
        client.pin(board_id="nowhere"),
        client.pin(account_id=str(uuid4())),
        client.pin(idempotency_key="deleted"),
        client.pin(idempotency_key="scheduled"),
        client.pin(run_at="2031-01-01T00:00:00Z"),
    )
    assert read_results(body) == [
        ("created", None),
        ("failed", "validation_error"),
        ("failed", "invalid_payload"),
        ("failed", "validation_error"),
        ("failed", "board_not_found"),
        ("failed", "account_not_found"),
        ("failed", "pin_deleted"),
        ("failed", "already_scheduled"),
        ("failed", "validation_error"),  # it has a run_at, so it is not published at once
    ]
    wrong = body["results"][1]
    assert (wrong["idempotency_key"], wrong["pin"]) == ("wrong", None)
    assert [fault["field"] for fault in wrong["error"]["errors"]] == ["title", "dominant_color"]
    assert body["results"][2]["idempotency_key"] == ""
    assert body["results"][7]["error"]["schedule_id"] == scheduled["id"]


async def test_among_equal_keys_the_first_publishable_pin_wins(client: Client) -> None:
    gone = client.pin(idempotency_key="k", board_id="nowhere")
    first, second = (
        client.pin(idempotency_key="k", title="First"),
        client.pin(idempotency_key="k", title="Second"),
    )
    body = await publish_batch(client, gone, first, second, gone)
    assert read_results(body) == [
        ("failed", "board_not_found"),
        ("created", None),
        ("existing", None),
        ("existing", None),
    ]
    assert {result["pin"]["title"] for result in body["results"][1:]} == {"First"}
    assert [result["payload_matches"] for result in body["results"]] == [None, None, False, False]
    title = {"field": "title", "stored": "First", "sent": "Second"}
    gone_fields = [
        {"field": "board_id", "stored": BOARD, "sent": "nowhere"},
        {"field": "title", "stored": "First", "sent": "Autumn lamps"},
    ]
    assert [result["differing_fields"] for result in body["results"]] == [
        None,
        None,
        [title],
        gone_fields,
    ]


async def test_items_with_other_content_fail_on_request(client: Client) -> None:
    first = client.pin(idempotency_key="k", title="First")
    second = client.pin(idempotency_key="k", title="Second")
    answer = await client.post(
        "/v1/pins/batch?on_mismatch=fail", {"pins": [first, first, second, client.pin()]}
    )
    body = answer.json()
    assert read_results(body) == [
        ("created", None),
        ("existing", None),
        ("failed", "idempotency_key_reused"),
        ("created", None),
    ]
    assert body["results"][1]["differing_fields"] == []
    error = body["results"][2]["error"]
    assert error["pin_id"] == body["results"][0]["pin"]["id"]
    assert error["differing_fields"] == [{"field": "title", "stored": "First", "sent": "Second"}]


async def test_a_taken_key_is_answered_with_its_pin_even_without_its_board(
    client: Client,
) -> None:
    pin = await client.publish_pin(idempotency_key="k")
    (result,) = (await publish_batch(client, client.pin(idempotency_key="k", board_id="nowhere")))[
        "results"
    ]
    assert (result["status"], result["pin"]) == ("existing", pin)


async def test_invariant_3_concurrent_batches_with_the_same_keys_publish_each_once(
    client: Client,
) -> None:
    pins = [client.pin(idempotency_key=f"shared-{number}") for number in range(60)]
    bodies = await asyncio.gather(
        *(publish_batch(client, *(pins if turn % 2 else reversed(pins))) for turn in range(6))
    )
    assert sum(body["created_count"] for body in bodies) == 60
    assert sum(body["existing_count"] for body in bodies) == 300
    assert (await client.get("/v1/pins")).headers["x-total-count"] == "60"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"pins": []}, "empty_batch"),
        ({"pins": [{}] * 101}, "too_many_pins"),
        ({"pins": {}}, "invalid_payload"),
        ({}, "invalid_payload"),
        ([], "invalid_payload"),
    ],
)
async def test_an_invalid_batch_is_refused(client: Client, body: Any, code: str) -> None:
    assert read_error(await client.post("/v1/pins/batch", body)) == (422, code)


async def test_a_batch_over_its_byte_limit_is_refused(client: Client) -> None:
    assert read_error(
        await client.post("/v1/pins/batch", {"pins": [client.pin(x="x" * 2**23)]})
    ) == (
        413,
        "payload_too_large",
    )
    assert read_error(await client.post("/v1/pins", client.pin(x="x" * 2**16))) == (
        413,
        "payload_too_large",
    )


async def test_requests_over_the_concurrency_limit_are_refused_at_once(
    workspace: Workspace, database: Database, database_url: str
) -> None:
    async with serving(database_url, max_direct_pins=2) as http:
        client = Client(http, workspace, database)
        answers = await asyncio.gather(
            *(client.post("/v1/pins/batch", {"pins": [client.pin()]}) for _ in range(20))
        )
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert {answer.status_code for answer in answers} == {200, 429}
        assert (refused[0].json()["detail"]["code"], refused[0].headers["retry-after"]) == (
            "overloaded",
            "1",
        )
        assert (await client.post("/v1/pins/batch", {"pins": [client.pin()]})).status_code == 200


async def test_items_for_accounts_that_the_key_may_not_use_fail(
    client: Client, workspace: Workspace, database: Database, database_url: str
) -> None:
    hidden = await client.publish_pin(idempotency_key="hidden")
    own = await workspace.add_account("own")
    principal = Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({own}))
    async with serving(database_url, principal) as http:
        narrow = Client(http, workspace, database)
        mine = {"account_id": str(own), "board_id": "own"}
        body = await publish_batch(
            narrow, narrow.pin(), narrow.pin(**mine), narrow.pin(**mine, idempotency_key="hidden")
        )
    assert read_results(body) == [
        ("failed", "account_not_permitted"),
        ("created", None),
        ("failed", "idempotency_conflict"),
    ]
    assert hidden["id"] not in str(body)


async def test_a_batch_requires_the_write_scope(
    workspace: Workspace, database: Database, database_url: str
) -> None:
    async with serving(
        database_url, Principal(workspace.id, uuid4(), frozenset({Scope.READ}))
    ) as http:
        reader: httpx.Response = await Client(http, workspace, database).post(
            "/v1/pins/batch", {"pins": [{}]}
        )
    assert read_error(reader) == (403, "insufficient_scope")
