"""Checks for each endpoint that another workspace's data is unreachable (invariant 10)."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx

from services.ingest.ids import new_job_id
from shared.access.board_ids import new_board_id
from tests.acceptance.rows import rows_for
from tests.acceptance.tenancy.checks import (
    Check,
    bulk_as_unknown,
    changes_account_as_unknown,
    changes_as_unknown,
    lists_nothing,
    reads_as_unknown,
    without,
)
from tests.acceptance.tenancy.tenants import SECRET, Tenants
from tests.support.deployment import wait_for_job

Operation = tuple[str, str]


def pin(tenants: Tenants) -> str:
    return tenants.pin


def schedule(tenants: Tenants) -> str:
    return tenants.schedule


def job(tenants: Tenants) -> str:
    return str(tenants.job["id"])


def account(tenants: Tenants) -> str:
    return tenants.account


def key(tenants: Tenants) -> str:
    return tenants.key


def webhook(tenants: Tenants) -> str:
    return tenants.webhook


def delivery(tenants: Tenants) -> str:
    return f"{tenants.webhook}/deliveries/{tenants.delivery}"


def board_access(tenants: Tenants) -> str:
    return f"{tenants.board}/access?account_id={tenants.account}"


def unknown_board_access() -> str:
    return f"{new_board_id()}/access?account_id={uuid4()}"


def unknown_delivery() -> str:
    return f"{uuid4()}/deliveries/{uuid4()}"


def attempt(tenants: Tenants) -> str:
    """Starts to connect the owner's account."""
    started = tenants.mine.get(f"/v1/pinterest/oauth/start?account_id={tenants.account}")
    return str(started.raise_for_status().json()["attempt_id"])


def account_query(tenants: Tenants) -> str:
    return f"?account_id={tenants.account}"


def job_query(tenants: Tenants) -> str:
    return f"?job_id={tenants.job['id']}"


def board_query(tenants: Tenants) -> str:
    return f"{account_query(tenants)}&board_id={tenants.board}"


def each_workspace_lists_its_own_accounts(tenants: Tenants) -> None:
    mine, theirs = (
        {account["id"] for account in client.get("/v1/pinterest/accounts").json()}
        for client in (tenants.mine, tenants.theirs)
    )
    assert mine == {
        *(str(account.id) for account in tenants.owner.accounts),
        tenants.empty_account,
        tenants.connected_account,
    }
    assert theirs == {str(account.id) for account in tenants.other.accounts}


def each_workspace_lists_its_own_keys(tenants: Tenants) -> None:
    mine, theirs = (
        {key["id"] for key in client.get("/v1/api-keys").json()}
        for client in (tenants.mine, tenants.theirs)
    )
    assert tenants.key in mine
    assert theirs
    assert not mine & theirs


def rows_for_a_foreign_account_fail_as_for_unknown(path: str) -> Check:
    """Checks that rows for the owner's account fail like rows for an unknown account.

    The owner must not see the import.
    """

    def check(tenants: Tenants) -> None:
        foreign = rows_for(tenants.owner, 1, prefix=f"foreign-{uuid4()}")[0]
        absent = {**foreign, "account_id": str(uuid4()), "idempotency_key": f"absent-{uuid4()}"}
        # The owner's idempotency key is free in another workspace
        reused = {
            **rows_for(tenants.other, 1, prefix="x")[0],
            "idempotency_key": "owned-1",
        }
        checked = _send_rows(tenants.theirs, f"{path}?dry_run=true", [foreign, absent, reused])
        # The owner's Idempotency-Key is free in another workspace
        key = {"Idempotency-Key": f"import-{path}"}
        owned = _send_rows(tenants.mine, path, rows_for(tenants.owner, 1, prefix="keyed"), key)
        # Or the owner's state would change while a later check compares it
        wait_for_job(tenants.mine, owned.json()["id"])
        accepted = _send_rows(tenants.theirs, path, [foreign, absent, reused], key)
        assert accepted.status_code == HTTPStatus.ACCEPTED
        assert "idempotent-replayed" not in accepted.headers
        assert accepted.json()["id"] != owned.json()["id"]
        job = wait_for_job(tenants.theirs, accepted.json()["id"])
        assert checked.json()["results"] == job["results"]
        foreign_result, absent_result, reused_result = job["results"]
        assert (foreign_result["status"], foreign_result["error_code"]) == (
            "failed",
            "account_not_found",
        )
        assert without(foreign_result["error_message"], foreign["account_id"]) == without(
            absent_result["error_message"], absent["account_id"]
        )
        # "existing", if the check of the other format has imported it before
        assert reused_result["status"] in {"created", "existing"}
        assert reused_result["pin_id"] != tenants.pin
        assert tenants.mine.get(f"/v1/pins/imports/{job['id']}").status_code == HTTPStatus.NOT_FOUND

    return check


def _send_rows(
    client: httpx.Client,
    path: str,
    rows: list[dict[str, Any]],
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    if "/csv" in path:
        names = list(rows[0])
        text = "\n".join(
            [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
        )
        return client.post(
            path, files={"file": ("rows.csv", text.encode(), "text/csv")}, headers=headers
        )
    return client.post(path, json=rows, headers=headers)


def a_pin_for_a_foreign_account_is_refused_as_for_unknown(tenants: Tenants) -> None:
    foreign = rows_for(tenants.owner, 1, prefix=f"direct-{uuid4()}")[0]
    _require_refused_alike(tenants, "/v1/pins", foreign)
    row = {**rows_for(tenants.other, 1, prefix="x")[0], "idempotency_key": "owned-1"}
    assert tenants.theirs.post("/v1/pins", json=row).json()["id"] != tenants.pin


def a_schedule_for_a_foreign_account_is_refused_as_for_unknown(tenants: Tenants) -> None:
    _require_refused_alike(tenants, "/v1/schedules", _build_schedule(tenants))


def _build_schedule(tenants: Tenants) -> dict[str, Any]:
    return {
        **rows_for(tenants.owner, 1, prefix=f"later-{uuid4()}")[0],
        "run_at": (datetime.now(UTC) + timedelta(days=9)).isoformat(),
    }


def _require_refused_alike(tenants: Tenants, path: str, body: dict[str, Any]) -> None:
    unknown = str(uuid4())
    refused, absent = (
        tenants.theirs.post(path, json=body),
        tenants.theirs.post(path, json={**body, "account_id": unknown}),
    )
    assert without(refused.text, body["account_id"]) == without(absent.text, unknown)
    assert refused.status_code == absent.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert refused.json()["detail"]["code"] == "account_not_found"


def a_batch_for_a_foreign_account_fails_as_for_unknown(tenants: Tenants) -> None:
    foreign = rows_for(tenants.owner, 1, prefix=f"batch-{uuid4()}")[0]
    absent = {**foreign, "account_id": str(uuid4())}
    reused = {**rows_for(tenants.other, 1, prefix="x")[0], "idempotency_key": "owned-1"}
    foreign_result, absent_result, reused_result = tenants.theirs.post(
        "/v1/pins/batch", json={"pins": [foreign, absent, reused]}
    ).json()["results"]
    assert foreign_result["error"]["code"] == "account_not_found"
    assert without(str(foreign_result["error"]), foreign["account_id"]) == without(
        str(absent_result["error"]), absent["account_id"]
    )
    assert reused_result["pin"]["id"] != tenants.pin


def dry_run_reveals_nothing(path: str) -> Check:
    """Checks that a dry run reveals nothing about the owner's account or idempotency keys."""

    def check(tenants: Tenants) -> None:
        foreign = {**_build_schedule(tenants), "idempotency_key": "owned-1"}
        unknown = str(uuid4())
        foreign_answer, absent_answer = (
            tenants.theirs.post(path, json=foreign),
            tenants.theirs.post(path, json={**foreign, "account_id": unknown}),
        )
        assert (foreign_answer.status_code, foreign_answer.json()["valid"]) == (
            HTTPStatus.OK,
            False,
        )
        assert foreign_answer.json()["existing_pin_id"] != tenants.pin
        assert without(foreign_answer.text, foreign["account_id"]) == without(
            absent_answer.text, unknown
        )

    return check


def a_retry_on_a_foreign_account_is_refused(tenants: Tenants) -> None:
    changes_as_unknown(
        "POST", "/v1/pins/{}/retry", pin, {"account_id": tenants.account, "board_id": tenants.board}
    )(tenants)


def a_key_for_a_foreign_account_is_refused_as_for_unknown(tenants: Tenants) -> None:
    unknown = str(uuid4())
    refused, absent = (
        tenants.theirs.post(
            "/v1/api-keys", json={"name": "mine?", "pinterest_account_ids": [account_id]}
        )
        for account_id in (tenants.account, unknown)
    )
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert without(refused.text, tenants.account) == without(absent.text, unknown)


def a_webhook_belongs_to_its_workspace(tenants: Tenants) -> None:
    body = {"url": "https://hooks.invalid/theirs", "secret": SECRET, "events": ["import.completed"]}
    webhook_id = tenants.theirs.post("/v1/webhooks", json=body).json()["id"]
    assert webhook_id not in {webhook["id"] for webhook in tenants.mine.get("/v1/webhooks").json()}
    tenants.theirs.delete(f"/v1/webhooks/{webhook_id}").raise_for_status()


SCENARIOS: dict[Operation, Check] = {
    ("GET", "/v1/pins/imports"): lists_nothing(
        "/v1/pins/imports", lambda _: "?status=completed", lambda _: "?source_type=json"
    ),
    ("GET", "/v1/pins/imports/{job_id}"): reads_as_unknown(
        "/v1/pins/imports/{}",
        job,
        lambda: new_job_id(datetime.now(UTC)),
    ),
    **{
        ("GET", f"/v1/pins/imports/{{job_id}}/{name}"): reads_as_unknown(
            f"/v1/pins/imports/{{}}/{name}", job, lambda: new_job_id(datetime.now(UTC))
        )
        for name in ("results", "results.csv", "failed.csv")
    },
    ("GET", "/v1/pins/imports/{job_id}/rows/{row_number}"): reads_as_unknown(
        "/v1/pins/imports/{}/rows/1", job, lambda: new_job_id(datetime.now(UTC))
    ),
    **{
        ("POST", f"/v1/pins/imports/{{job_id}}/{command}"): changes_as_unknown(
            "POST", f"/v1/pins/imports/{{}}/{command}", job
        )
        for command in ("retry", "cancel", "undo")
    },
    ("POST", "/v1/pins/imports/json"): rows_for_a_foreign_account_fail_as_for_unknown(
        "/v1/pins/imports/json"
    ),
    ("POST", "/v1/pins/imports/csv"): rows_for_a_foreign_account_fail_as_for_unknown(
        "/v1/pins/imports/csv"
    ),
    ("GET", "/v1/pins"): lists_nothing(
        "/v1/pins",
        account_query,
        board_query,
        job_query,
        lambda _: "?q=Lamp",
        lambda _: "?sort=title_asc",
    ),
    ("POST", "/v1/pins"): a_pin_for_a_foreign_account_is_refused_as_for_unknown,
    ("POST", "/v1/pins/batch"): a_batch_for_a_foreign_account_fails_as_for_unknown,
    ("POST", "/v1/pins/validate"): dry_run_reveals_nothing("/v1/pins/validate"),
    ("GET", "/v1/pins/{pin_id}"): reads_as_unknown("/v1/pins/{}", pin),
    ("PATCH", "/v1/pins/{pin_id}"): changes_as_unknown(
        "PATCH", "/v1/pins/{}", pin, {"title": "Theirs"}
    ),
    ("DELETE", "/v1/pins/{pin_id}"): changes_as_unknown("DELETE", "/v1/pins/{}", pin),
    ("POST", "/v1/pins/{pin_id}/retry"): a_retry_on_a_foreign_account_is_refused,
    ("POST", "/v1/pins/bulk-delete"): bulk_as_unknown("/v1/pins/bulk-delete", pin),
    ("POST", "/v1/pins/bulk-retry"): bulk_as_unknown("/v1/pins/bulk-retry", pin),
    ("GET", "/v1/jobs/{job_id}"): reads_as_unknown("/v1/jobs/{}", pin),
    ("GET", "/v1/deliveries"): lists_nothing("/v1/deliveries"),
    ("GET", "/v1/schedules"): lists_nothing(
        "/v1/schedules",
        account_query,
        board_query,
        job_query,
        lambda _: "?q=Lamp",
        lambda _: "?sort=title_asc",
    ),
    ("POST", "/v1/schedules"): a_schedule_for_a_foreign_account_is_refused_as_for_unknown,
    ("POST", "/v1/schedules/validate"): dry_run_reveals_nothing("/v1/schedules/validate"),
    ("GET", "/v1/schedules/{schedule_id}"): reads_as_unknown("/v1/schedules/{}", schedule),
    ("PATCH", "/v1/schedules/{schedule_id}"): changes_as_unknown(
        "PATCH", "/v1/schedules/{}", schedule, {"title": "Theirs"}
    ),
    ("DELETE", "/v1/schedules/{schedule_id}"): changes_as_unknown(
        "DELETE", "/v1/schedules/{}", schedule
    ),
    ("POST", "/v1/schedules/{schedule_id}/cancel"): changes_as_unknown(
        "POST", "/v1/schedules/{}/cancel", schedule
    ),
    ("POST", "/v1/schedules/{schedule_id}/retry"): changes_as_unknown(
        "POST", "/v1/schedules/{}/retry", schedule
    ),
    ("POST", "/v1/schedules/bulk-cancel"): bulk_as_unknown("/v1/schedules/bulk-cancel", schedule),
    ("POST", "/v1/schedules/bulk-retry"): bulk_as_unknown("/v1/schedules/bulk-retry", schedule),
    ("POST", "/v1/schedules/bulk-delete"): bulk_as_unknown("/v1/schedules/bulk-delete", schedule),
    ("GET", "/v1/pinterest/accounts"): each_workspace_lists_its_own_accounts,
    ("DELETE", "/v1/pinterest/accounts/{account_id}"): changes_as_unknown(
        "DELETE", "/v1/pinterest/accounts/{}", account
    ),
    ("POST", "/v1/pinterest/accounts/{account_id}/refresh"): changes_as_unknown(
        "POST", "/v1/pinterest/accounts/{}/refresh", account
    ),
    ("GET", "/v1/pinterest/oauth/start"): reads_as_unknown(
        "/v1/pinterest/oauth/start?account_id={}", account
    ),
    ("GET", "/v1/pinterest/oauth/attempts/{attempt_id}"): reads_as_unknown(
        "/v1/pinterest/oauth/attempts/{}", attempt
    ),
    ("GET", "/v1/pinterest/boards"): reads_as_unknown(
        "/v1/pinterest/boards?account_id={}", account
    ),
    ("POST", "/v1/pinterest/boards"): changes_account_as_unknown(
        "POST", "/v1/pinterest/boards", {"name": "Theirs"}, in_body=True
    ),
    ("PATCH", "/v1/pinterest/boards/{board_id}"): changes_account_as_unknown(
        "PATCH", "/v1/pinterest/boards/{board}", {"name": "Theirs"}, in_body=True
    ),
    ("DELETE", "/v1/pinterest/boards/{board_id}"): changes_account_as_unknown(
        "DELETE", "/v1/pinterest/boards/{board}", {}, in_body=False
    ),
    ("GET", "/v1/pinterest/boards/{board_id}/access"): reads_as_unknown(
        "/v1/pinterest/boards/{}", board_access, unknown_board_access
    ),
    ("GET", "/v1/rate-meter"): reads_as_unknown("/v1/rate-meter?account_id={}", account),
    ("GET", "/v1/api-keys"): each_workspace_lists_its_own_keys,
    ("POST", "/v1/api-keys"): a_key_for_a_foreign_account_is_refused_as_for_unknown,
    ("PATCH", "/v1/api-keys/{key_id}"): changes_as_unknown(
        "PATCH", "/v1/api-keys/{}", key, {"name": "theirs"}
    ),
    ("DELETE", "/v1/api-keys/{key_id}"): changes_as_unknown("DELETE", "/v1/api-keys/{}", key),
    ("GET", "/v1/webhooks"): lists_nothing("/v1/webhooks"),
    ("POST", "/v1/webhooks"): a_webhook_belongs_to_its_workspace,
    ("GET", "/v1/webhooks/{webhook_id}"): reads_as_unknown("/v1/webhooks/{}", webhook),
    ("PATCH", "/v1/webhooks/{webhook_id}"): changes_as_unknown(
        "PATCH", "/v1/webhooks/{}", webhook, {"is_enabled": False}
    ),
    ("DELETE", "/v1/webhooks/{webhook_id}"): changes_as_unknown(
        "DELETE", "/v1/webhooks/{}", webhook
    ),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): reads_as_unknown(
        "/v1/webhooks/{}/deliveries", webhook
    ),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): reads_as_unknown(
        "/v1/webhooks/{}", delivery, unknown_delivery
    ),
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"): changes_as_unknown(
        "POST", "/v1/webhooks/{}/resend", delivery, unknown=unknown_delivery
    ),
}
