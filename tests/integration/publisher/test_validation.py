"""Dry runs: they check a pin or schedule and store nothing."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.publisher.conftest import Client, read_error, require_created, serving


async def validate(client: Client, kind: str, body: Any, **headers: str) -> dict[str, Any]:
    answer = await client.post(f"/v1/{kind}/validate", body, **headers)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    assert report["dry_run"] is True
    assert report["valid"] is all(check["status"] != "failed" for check in report["checks"])
    return report


def read_checks(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {check["name"]: (check["status"], check["code"]) for check in report["checks"]}


PASSED = ("passed", None)


async def test_a_valid_pin_passes_every_check_and_nothing_is_stored(client: Client) -> None:
    report = await validate(
        client,
        "pins",
        client.pin(dominant_color="abcdef", related_terms="a, b", idempotency_key=" k "),
    )
    assert read_checks(report) == dict.fromkeys(
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
    report = await validate(client, "schedules", client.schedule())
    assert read_checks(report) == {
        **dict.fromkeys(["fields", "account", "board", "media", "run_at"], PASSED),
        "idempotency_key": ("skipped", None),
    }
    assert "idempotency_key" not in report["resolved"]
    assert report["resolved"]["run_at"].endswith("Z")


async def test_every_fault_fails_its_own_check_and_the_others_still_run(
    client: Client,
) -> None:
    body = client.pin(
        title="", alt_text=7, image_url=None, board_id="nowhere", run_at="2031-01-01T00:00:00Z", x=1
    )
    report = await validate(client, "pins", body)
    assert (report["valid"], report["resolved"]) == (False, None)
    assert read_checks(report) == {
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


async def test_unknown_fields_and_assets_give_warnings(client: Client) -> None:
    body = client.pin(campaign="x", image_url=None, asset_id=str(uuid4()))
    report = await validate(client, "pins", body)
    assert report["valid"] is True
    assert (read_checks(report)["fields"], read_checks(report)["media"]) == (
        ("warning", "unknown_fields"),
        ("warning", "asset_not_checked"),
    )
    assert report["checks"][0]["details"]["fields"] == ["campaign"]


async def test_a_misspelled_field_fails_the_check_as_the_request_would(client: Client) -> None:
    body = client.pin(titel="x", campaign="y")
    report = await validate(client, "pins", body)
    assert (report["valid"], read_checks(report)["fields"]) == (False, ("failed", "unknown_field"))
    answer = await client.post("/v1/pins", body)
    assert read_error(answer) == (422, "unknown_field")
    assert "Did you mean title?" in answer.json()["detail"]["message"]
    batch = (await client.post("/v1/pins/batch", {"pins": [body, client.pin()]})).json()
    assert [item["status"] for item in batch["results"]] == ["failed", "created"]


async def test_a_pin_with_run_at_is_refused_instead_of_published_at_once(
    client: Client,
) -> None:
    body = client.pin(run_at="2031-01-01T00:00:00Z")
    report = await validate(client, "pins", body)
    assert (report["valid"], read_checks(report)["run_at"]) == (
        False,
        ("failed", "validation_error"),
    )
    answer = await client.post("/v1/pins", body)
    assert read_error(answer) == (422, "validation_error")
    assert "/v1/schedules" in answer.json()["detail"]["message"]


async def test_a_key_in_the_header_is_checked_like_one_in_the_body(client: Client) -> None:
    pin = await client.publish_pin(idempotency_key="k")
    body = client.pin(idempotency_key=None)
    report = await validate(client, "pins", body, **{"Idempotency-Key": "k"})
    assert (report["valid"], report["existing_pin_id"]) == (True, pin["id"])


@pytest.mark.parametrize("kind", ["pins", "schedules"])
async def test_an_empty_object_fails_every_check_that_can_fail(client: Client, kind: str) -> None:
    report = await validate(client, kind, {})
    statuses = {name: status for name, (status, _) in read_checks(report).items()}
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
async def test_a_body_that_is_not_an_object_is_refused(
    client: Client, kind: str, body: Any
) -> None:
    assert read_error(await client.post(f"/v1/{kind}/validate", body)) == (422, "invalid_payload")


async def test_an_unknown_account_fails_its_check_and_its_board_is_not_checked(
    client: Client,
) -> None:
    report = await validate(client, "pins", client.pin(account_id=str(uuid4())))
    assert (read_checks(report)["account"], read_checks(report)["board"]) == (
        ("failed", "account_not_found"),
        ("skipped", None),
    )


async def test_a_taken_key_is_reported_with_its_pin(client: Client) -> None:
    pin = await client.publish_pin(idempotency_key="k")
    same = await validate(client, "pins", client.pin(idempotency_key="k"))
    other = await validate(client, "pins", client.pin(idempotency_key="k", title="Other"))
    title = {"field": "title", "stored": "Autumn lamps", "sent": "Other"}
    for report, matches, fields in ((same, True, []), (other, False, [title])):
        assert (report["valid"], report["existing_pin_id"]) == (True, pin["id"])
        assert read_checks(report)["idempotency_key"] == ("warning", "idempotency_key_taken")
        assert report["checks"][-1]["details"] == {
            "payload_matches": matches,
            "differing_fields": fields,
        }


async def test_an_unusable_key_fails_its_check(client: Client) -> None:
    pin = await client.publish_pin(idempotency_key="deleted")
    await client.delete(f"/v1/pins/{pin['id']}")
    schedule = await client.create_schedule(idempotency_key="scheduled")
    deleted = await validate(client, "pins", client.pin(idempotency_key="deleted"))
    scheduled = await validate(client, "pins", client.pin(idempotency_key="scheduled"))
    assert (read_checks(deleted)["idempotency_key"], deleted["existing_pin_id"]) == (
        ("failed", "pin_deleted"),
        pin["id"],
    )
    assert read_checks(scheduled)["idempotency_key"] == ("failed", "already_scheduled")
    assert scheduled["checks"][-1]["details"]["schedule_id"] == schedule["id"]


async def test_a_taken_key_of_a_schedule_is_reported(client: Client) -> None:
    body = client.schedule(idempotency_key="k")
    await client.post("/v1/schedules", body)
    assert read_checks(await validate(client, "schedules", body))["idempotency_key"] == (
        "warning",
        "idempotency_key_taken",
    )
    other = await validate(
        client, "schedules", client.schedule(title="Other"), **{"Idempotency-Key": "k"}
    )
    assert read_checks(other)["idempotency_key"] == ("failed", "idempotency_key_reused")
    details = {check["name"]: check["details"] for check in other["checks"]}["idempotency_key"]
    assert "title" in [difference["field"] for difference in details["differing_fields"]]
    wrong = await validate(client, "schedules", {**body, "title": ""})
    assert read_checks(wrong)["idempotency_key"] == ("skipped", None)


@pytest.mark.parametrize(
    ("run_at", "code"),
    [
        ("2020-01-01T00:00:00Z", "run_at_in_past"),
        ("tomorrow", "validation_error"),
        (None, "validation_error"),
    ],
)
async def test_an_invalid_run_at_fails_its_check(
    client: Client, run_at: str | None, code: str
) -> None:
    assert read_checks(await validate(client, "schedules", client.schedule(run_at=run_at)))[
        "run_at"
    ] == (
        "failed",
        code,
    )


async def test_invariant_10_a_dry_run_reveals_nothing_of_another_workspace(
    client: Client, database: Database, http: httpx.AsyncClient
) -> None:
    await client.publish_pin(idempotency_key="k")
    other = Client(http, await make_workspace(database), database)
    report = await validate(other, "pins", client.pin(idempotency_key="k"))
    assert (read_checks(report)["account"], read_checks(report)["idempotency_key"]) == (
        ("failed", "account_not_found"),
        PASSED,
    )
    assert report["existing_pin_id"] is None


@pytest.mark.parametrize(
    ("kind", "refused"), [("pins", "idempotency_conflict"), ("schedules", "idempotency_key_reused")]
)
async def test_a_dry_run_reveals_nothing_of_accounts_that_the_key_may_not_use(
    client: Client,
    workspace: Workspace,
    database: Database,
    database_url: str,
    kind: str,
    refused: str,
) -> None:
    body = {"pins": client.pin, "schedules": client.schedule}[kind](idempotency_key="k")
    require_created(await client.post(f"/v1/{kind}", body))
    own = str(await workspace.add_account("own"))
    async with serving(
        database_url, Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({UUID(own)}))
    ) as http:
        narrow = Client(http, workspace, database)
        guessed = await validate(narrow, kind, body)
        unknown = await validate(narrow, kind, {**body, "account_id": str(uuid4())})
        taken = await validate(narrow, kind, {**body, "account_id": own})
    assert (
        read_checks(guessed)["account"]
        == read_checks(unknown)["account"]
        == ("failed", "account_not_permitted")
    )
    assert (
        read_checks(guessed)["idempotency_key"]
        == read_checks(unknown)["idempotency_key"]
        == ("skipped", None)
    )
    assert read_checks(taken)["idempotency_key"] == ("failed", refused)
    assert {report["existing_pin_id"] for report in (guessed, unknown, taken)} == {None}
