"""Dry runs: what would become of a pin or schedule, check by check, with nothing stored."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.publisher.conftest import Client, made, refusal, serving


async def validated(client: Client, kind: str, body: Any, **headers: str) -> dict[str, Any]:
    answer = await client.post(f"/v1/{kind}/validate", body, **headers)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    assert report["dry_run"] is True
    assert report["valid"] is all(check["status"] != "failed" for check in report["checks"])
    return report


def told(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {check["name"]: (check["status"], check["code"]) for check in report["checks"]}


PASSED = ("passed", None)


async def test_a_valid_pin_passes_every_check_and_nothing_is_stored(client: Client) -> None:
    report = await validated(
        client,
        "pins",
        client.pin(dominant_color="abcdef", related_terms="a, b", idempotency_key=" k "),
    )
    assert told(report) == dict.fromkeys(
        ["fields", "account", "board", "media", "idempotency_key"], PASSED
    )
    resolved = report["resolved"]
    assert (resolved["dominant_color"], resolved["related_terms"], resolved["idempotency_key"]) == (
        "#ABCDEF",
        ["a", "b"],
        "k",
    )
    assert (report["existing_pin_id"], report["headroom"]) == (None, None)
    assert (await client.get("/v1/pins")).json() == []


async def test_a_valid_schedule_passes_every_check_and_nothing_is_stored(client: Client) -> None:
    report = await validated(client, "schedules", client.schedule())
    assert told(report) == {
        **dict.fromkeys(["fields", "account", "board", "media", "run_at"], PASSED),
        "idempotency_key": ("skipped", None),
    }
    assert "idempotency_key" not in report["resolved"]
    assert report["resolved"]["run_at"].endswith("Z")


async def test_every_fault_stands_in_its_own_check_and_the_rest_is_checked_all_the_same(
    client: Client,
) -> None:
    body = client.pin(
        title="", alt_text=7, image_url=None, board_id="nowhere", run_at="2031-01-01T00:00:00Z", x=1
    )
    report = await validated(client, "pins", body)
    assert (report["valid"], report["resolved"]) == (False, None)
    assert told(report) == {
        "fields": ("failed", "validation_error"),
        "account": PASSED,
        "board": ("failed", "board_not_found"),
        "media": ("failed", "validation_error"),
        "idempotency_key": PASSED,
        "run_at": ("failed", "validation_error"),
    }
    checks = {check["name"]: check for check in report["checks"]}
    assert [fault["field"] for fault in checks["fields"]["details"]["errors"]] == [
        "title",
        "alt_text",
    ]
    assert all(checks[name]["remediation"] for name in ("fields", "board", "media"))


async def test_unknown_fields_and_assets_are_warned_of(client: Client) -> None:
    body = client.pin(titel="x", image_url=None, asset_id=str(uuid4()))
    report = await validated(client, "pins", body)
    assert report["valid"] is True
    assert (told(report)["fields"], told(report)["media"]) == (
        ("warning", "unknown_fields"),
        ("warning", "asset_not_checked"),
    )
    assert report["checks"][0]["details"]["fields"] == ["titel"]


async def test_a_pin_for_later_is_sent_to_the_schedules_before_it_is_published_at_once(
    client: Client,
) -> None:
    body = client.pin(run_at="2031-01-01T00:00:00Z")
    report = await validated(client, "pins", body)
    assert (report["valid"], told(report)["run_at"]) == (False, ("failed", "validation_error"))
    answer = await client.post("/v1/pins", body)
    assert refusal(answer) == (422, "validation_error")
    assert "/v1/schedules" in answer.json()["detail"]["message"]


@pytest.mark.parametrize("kind", ["pins", "schedules"])
async def test_an_empty_object_fails_every_check_that_can_fail(client: Client, kind: str) -> None:
    report = await validated(client, kind, {})
    statuses = {name: status for name, (status, _) in told(report).items()}
    own = {
        "pins": {"idempotency_key": "failed"},
        "schedules": {"run_at": "failed", "idempotency_key": "skipped"},
    }[kind]
    assert statuses == {
        "fields": "failed",
        "account": "failed",
        "board": "failed",
        "media": "failed",
        **own,
    }


@pytest.mark.parametrize("kind", ["pins", "schedules"])
@pytest.mark.parametrize("body", [[], "x", 1])
async def test_what_is_no_object_is_refused(client: Client, kind: str, body: Any) -> None:
    assert refusal(await client.post(f"/v1/{kind}/validate", body)) == (422, "invalid_payload")


async def test_an_unknown_account_fails_its_check_and_its_board_is_not_looked_for(
    client: Client,
) -> None:
    report = await validated(client, "pins", client.pin(account_id=str(uuid4())))
    assert (told(report)["account"], told(report)["board"]) == (
        ("failed", "account_not_found"),
        ("skipped", None),
    )


async def test_a_key_that_is_taken_is_told_with_its_pin(client: Client) -> None:
    pin = await client.published(idempotency_key="k")
    same = await validated(client, "pins", client.pin(idempotency_key="k"))
    other = await validated(client, "pins", client.pin(idempotency_key="k", title="Other"))
    for report, matches in ((same, True), (other, False)):
        assert (report["valid"], report["existing_pin_id"]) == (True, pin["id"])
        assert told(report)["idempotency_key"] == ("warning", "idempotency_key_taken")
        assert report["checks"][-1]["details"] == {"payload_matches": matches}


async def test_a_key_that_can_not_be_used_fails_its_check(client: Client) -> None:
    pin = await client.published(idempotency_key="deleted")
    await client.delete(f"/v1/pins/{pin['id']}")
    schedule = await client.scheduled(idempotency_key="scheduled")
    deleted = await validated(client, "pins", client.pin(idempotency_key="deleted"))
    scheduled = await validated(client, "pins", client.pin(idempotency_key="scheduled"))
    assert (told(deleted)["idempotency_key"], deleted["existing_pin_id"]) == (
        ("failed", "pin_deleted"),
        pin["id"],
    )
    assert told(scheduled)["idempotency_key"] == ("failed", "already_scheduled")
    assert scheduled["checks"][-1]["details"]["schedule_id"] == schedule["id"]


async def test_a_schedules_key_that_is_taken_is_told(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    await client.post("/v1/schedules", body)
    assert told(await validated(client, "schedules", body))["idempotency_key"] == (
        "warning",
        "idempotency_key_taken",
    )
    other = await validated(
        client, "schedules", client.schedule(title="Other"), **{"Idempotency-Key": "k"}
    )
    assert told(other)["idempotency_key"] == ("failed", "idempotency_key_reused")
    wrong = await validated(client, "schedules", {**body, "title": ""})
    assert told(wrong)["idempotency_key"] == ("skipped", None)


@pytest.mark.parametrize(
    ("run_at", "code"),
    [
        ("2020-01-01T00:00:00Z", "run_at_in_past"),
        ("tomorrow", "validation_error"),
        (None, "validation_error"),
    ],
)
async def test_a_time_that_is_wrong_fails_its_check(
    client: Client, run_at: str | None, code: str
) -> None:
    assert told(await validated(client, "schedules", client.schedule(run_at=run_at)))["run_at"] == (
        "failed",
        code,
    )


async def test_invariant_10_a_dry_run_tells_nothing_of_another_workspace(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    await client.published(idempotency_key="k")
    other = Client(http, await make_workspace(database), database)
    report = await validated(other, "pins", client.pin(idempotency_key="k"))
    assert (told(report)["account"], told(report)["idempotency_key"]) == (
        ("failed", "account_not_found"),
        PASSED,
    )
    assert report["existing_pin_id"] is None


@pytest.mark.parametrize(
    ("kind", "refused"), [("pins", "idempotency_conflict"), ("schedules", "idempotency_key_reused")]
)
async def test_a_dry_run_tells_nothing_of_accounts_that_the_key_may_not_use(
    client: Client,
    workspace: Workspace,
    database: Database,
    database_url: str,
    kind: str,
    refused: str,
) -> None:
    body = {"pins": client.pin, "schedules": client.schedule}[kind](idempotency_key="k")
    made(await client.post(f"/v1/{kind}", body))
    own = str(await workspace.add_account("own"))
    async with serving(
        database_url, Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({UUID(own)}))
    ) as http:
        narrow = Client(http, workspace, database)
        guessed = await validated(narrow, kind, body)
        unknown = await validated(narrow, kind, {**body, "account_id": str(uuid4())})
        taken = await validated(narrow, kind, {**body, "account_id": own})
    assert (
        told(guessed)["account"] == told(unknown)["account"] == ("failed", "account_not_permitted")
    )
    assert told(guessed)["idempotency_key"] == told(unknown)["idempotency_key"] == ("skipped", None)
    assert told(taken)["idempotency_key"] == ("failed", refused)
    assert {report["existing_pin_id"] for report in (guessed, unknown, taken)} == {None}
