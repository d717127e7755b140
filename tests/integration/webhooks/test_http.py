"""The HTTP API of webhooks: validation, permissions and responses."""

from typing import Any
from uuid import uuid4

import pytest
from pinbridge_sdk.models.webhooks import WebhookResponse

from shared.access.keys import Scope
from shared.access.model import Principal
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.webhooks.conftest import SECRET, Webhooks
from tests.support.receivers import Receiver

URL = "https://hooks.example/a"


async def test_a_webhook_is_created_read_changed_and_deleted(
    webhooks: Webhooks, workspace: Workspace
) -> None:
    created = await webhooks.create(workspace, URL)
    assert WebhookResponse.model_validate(created).events == ["pin.published", "pin.failed"]
    assert (created["url"], created["is_enabled"], created["disabled_reason"]) == (URL, True, None)
    assert await webhooks.webhook(workspace, created["id"]) == created
    changed = await webhooks.change(
        workspace,
        created["id"],
        events=["import.failed", "pin.failed", "import.failed"],
        url="https://b.example",
    )
    assert (changed["url"], changed["events"], changed["id"]) == (
        "https://b.example/",
        ["pin.failed", "import.failed"],
        created["id"],
    )
    assert changed["updated_at"] > created["updated_at"]
    assert (await webhooks.http.get("/v1/webhooks", headers=workspace.headers)).json() == [changed]
    path = f"/v1/webhooks/{created['id']}"
    deleted = await webhooks.http.delete(path, headers=workspace.headers)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (
        await webhooks.http.get(path, headers=workspace.headers),
        await webhooks.http.delete(path, headers=workspace.headers),
        await webhooks.http.patch(path, json={}, headers=workspace.headers),
        await webhooks.http.get("/v1/webhooks/no-uuid", headers=workspace.headers),
    ):
        assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")


async def test_the_secret_is_never_returned(webhooks: Webhooks, workspace: Workspace) -> None:
    created = await webhooks.create(workspace, URL)
    answers = [
        await webhooks.http.get(f"/v1/webhooks/{created['id']}", headers=workspace.headers),
        await webhooks.http.get("/v1/webhooks", headers=workspace.headers),
        await webhooks.http.patch(
            f"/v1/webhooks/{created['id']}",
            json={"secret": f"{SECRET}!"},
            headers=workspace.headers,
        ),
        await webhooks.http.post(
            "/v1/webhooks",
            json={"url": "no url", "secret": f"{SECRET}\0"},
            headers=workspace.headers,
        ),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 422]
    assert SECRET not in "".join([str(created), *(answer.text for answer in answers)])


async def test_creating_an_equal_webhook_returns_the_existing_one(
    webhooks: Webhooks, workspace: Workspace
) -> None:
    equal = {"url": URL, "secret": SECRET, "events": ["pin.failed", "pin.published"]}
    created = await webhooks.create(workspace, URL)
    again = await webhooks.http.post("/v1/webhooks", json=equal, headers=workspace.headers)
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (
        201,
        created,
        "true",
    )
    other = await webhooks.http.post(
        "/v1/webhooks", json={**equal, "secret": f"{SECRET}!"}, headers=workspace.headers
    )
    assert other.json()["id"] != created["id"]
    assert "idempotent-replayed" not in other.headers


INVALID = [
    ({"url": "ftp://hooks.example"}, "url"),
    ({"url": "hooks.example"}, "url"),
    ({"url": "https://"}, "url"),
    ({"url": "https://user:password@hooks.example"}, "url"),
    ({"url": "https://hooks.example/" + "a" * 2048}, "url"),
    ({"url": "http://hooks.example:25/"}, "url"),
    ({"url": None}, "url"),
    ({"secret": "x" * 15}, "secret"),
    ({"secret": "x" * 256}, "secret"),
    ({"secret": "whsec_" + "?" * 20}, "secret"),
    ({"events": ["pin.published", "pin.deleted"]}, "events.1"),
    ({"events": []}, "events"),
    ({"is_enabled": "perhaps"}, "is_enabled"),
]


@pytest.mark.parametrize(("fields", "field"), INVALID, ids=lambda value: str(value)[:40])
async def test_an_invalid_field_is_422_and_named(
    webhooks: Webhooks, workspace: Workspace, fields: dict[str, Any], field: str
) -> None:
    body = {"url": URL, "secret": SECRET, **fields}
    answer = await webhooks.http.post("/v1/webhooks", json=body, headers=workspace.headers)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"], detail["errors"][0]["field"]) == (
        422,
        "validation_error",
        field,
    )
    assert (await webhooks.http.get("/v1/webhooks", headers=workspace.headers)).json() == []


async def test_the_error_for_an_unknown_event_lists_the_valid_ones(
    webhooks: Webhooks, workspace: Workspace
) -> None:
    body = {"url": URL, "secret": SECRET, "events": ["pin.deleted"]}
    answer = await webhooks.http.post("/v1/webhooks", json=body, headers=workspace.headers)
    fault = answer.json()["detail"]["errors"][0]
    assert fault["value"] == "pin.deleted"
    valid = (
        "pin.published",
        "pin.failed",
        "import.completed",
        "import.completed_with_errors",
        "import.failed",
    )
    assert all(name in fault["message"] for name in valid)


async def test_a_body_that_is_not_an_object_or_too_large_is_rejected(
    webhooks: Webhooks, workspace: Workspace
) -> None:
    bodies = {b"[]": 422, b"{": 422, b'{"url": "' + b"a" * 20_000 + b'"}': 413}
    for body, status in bodies.items():
        answer = await webhooks.http.post(
            "/v1/webhooks",
            content=body,
            headers={**workspace.headers, "Content-Type": "application/json"},
        )
        assert answer.status_code == status, answer.text


async def test_a_workspace_has_a_maximum_number_of_webhooks(
    webhooks: Webhooks, workspace: Workspace
) -> None:
    for number in range(5):
        await webhooks.create(workspace, f"{URL}/{number}")
    body = {"url": f"{URL}/5", "secret": SECRET}
    answer = await webhooks.http.post("/v1/webhooks", json=body, headers=workspace.headers)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"], detail["limit"], detail["current"]) == (
        409,
        "too_many_webhooks",
        5,
        5,
    )
    body = {"url": f"{URL}/4", "secret": SECRET}
    assert (
        await webhooks.http.post("/v1/webhooks", json=body, headers=workspace.headers)
    ).status_code == 201  # an equal webhook exists


async def test_invariant_10_another_workspace_sees_no_webhooks(
    webhooks: Webhooks, workspace: Workspace, database: Database, receiver: Receiver
) -> None:
    created = await webhooks.create(workspace, receiver.url)
    other = await make_workspace(database)
    path = f"/v1/webhooks/{created['id']}"
    unknown = f"/v1/webhooks/{uuid4()}"
    for foreign, missing in (
        (path, unknown),
        (f"{path}/deliveries", f"{unknown}/deliveries"),
        (f"{path}/deliveries/{uuid4()}", f"{unknown}/deliveries/{uuid4()}"),
    ):
        answers = [
            await webhooks.http.get(path, headers=other.headers) for path in (foreign, missing)
        ]
        assert [(answer.status_code, answer.json()) for answer in answers] == [
            (404, answers[1].json())
        ] * 2
    assert (
        await webhooks.http.patch(path, json={"is_enabled": False}, headers=other.headers)
    ).status_code == 404
    assert (await webhooks.http.delete(path, headers=other.headers)).status_code == 404
    assert (
        await webhooks.http.post(f"{path}/deliveries/{uuid4()}/resend", headers=other.headers)
    ).status_code == 404
    assert (await webhooks.http.get("/v1/webhooks", headers=other.headers)).json() == []
    assert await webhooks.webhook(workspace, created["id"]) == created


async def test_each_endpoint_requires_its_scope(webhooks: Webhooks, database: Database) -> None:
    path = f"/v1/webhooks/{uuid4()}"
    body = {"url": URL, "secret": SECRET}
    required_scopes = [
        ("GET", "/v1/webhooks", Scope.READ),
        ("GET", path, Scope.READ),
        ("GET", f"{path}/deliveries", Scope.READ),
        ("GET", f"{path}/deliveries/{uuid4()}", Scope.READ),
        ("POST", "/v1/webhooks", Scope.WRITE),
        ("PATCH", path, Scope.WRITE),
        ("POST", f"{path}/deliveries/{uuid4()}/resend", Scope.WRITE),
        ("DELETE", path, Scope.DESTRUCTIVE),
    ]
    for scope in Scope:
        limited = await make_workspace(database, scopes=(scope,))
        for method, url, required in required_scopes:
            answer = await webhooks.http.request(
                method,
                url,
                json=body if method in {"POST", "PATCH"} else None,
                headers=limited.headers,
            )
            is_rejected = (
                answer.status_code == 403
                and answer.json()["detail"]["code"] == "insufficient_scope"
            )
            assert is_rejected is (scope is not required), (scope, method, url)


async def test_a_key_limited_to_accounts_sees_no_events(
    webhooks: Webhooks, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await webhooks.create(workspace, URL)
    limited = Principal(workspace.id, uuid4(), frozenset(Scope), frozenset({workspace.account_id}))

    async def authenticate(_key: str | None, _address: str = "") -> Principal:
        return limited

    app: Any = webhooks.http._transport.app  # type: ignore[attr-defined]
    monkeypatch.setattr(app.state.authenticator, "authenticate", authenticate)
    path = f"/v1/webhooks/{created['id']}"
    for method, url in (
        ("POST", "/v1/webhooks"),
        ("PATCH", path),
        ("DELETE", path),
        ("GET", f"{path}/deliveries"),
        ("GET", f"{path}/deliveries/{uuid4()}"),
        ("POST", f"{path}/deliveries/{uuid4()}/resend"),
    ):
        answer = await webhooks.http.request(method, url, headers=workspace.headers)
        assert (answer.status_code, answer.json()["detail"]["code"]) == (
            403,
            "account_not_permitted",
        ), url
    assert (await webhooks.http.get("/v1/webhooks", headers=workspace.headers)).json() == [created]


async def test_readiness_and_metrics_describe_the_service(webhooks: Webhooks) -> None:
    assert (await webhooks.http.get("/readyz")).json()["checks"] == {"runtime": "ok"}
    text = (await webhooks.http.get("/metrics")).text
    assert 'pinflow_oldest_unprocessed_seconds{consumer="webhooks",member="0"}' in text
    assert "pinflow_webhook_oldest_due_seconds" in text
