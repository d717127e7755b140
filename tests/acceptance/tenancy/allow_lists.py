"""Checks each endpoint with a key of the owner's workspace whose list lacks the account.

To that key, resources of accounts not on its list do not exist. Publishing to such an account is
refused with `account_not_permitted`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx

from tests.acceptance.rows import rows_for
from tests.acceptance.tenancy.checks import Check, changes_as_unknown
from tests.acceptance.tenancy.tenants import SECRET, UNREACHABLE_URL, Tenants
from tests.acceptance.tenancy.workspaces import SCENARIOS, Operation
from tests.support.deployment import wait_for_job

NOT_LIMITED_BY_ACCOUNT: dict[Operation, str] = {
    (
        "GET",
        "/v1/pins/imports",
    ): "an import belongs to the workspace; its results have ids and errors, but no content",
    ("GET", "/v1/pins/imports/{job_id}"): "the same",
    ("GET", "/v1/pins/imports/{job_id}/results"): "the same",
    ("GET", "/v1/pins/imports/{job_id}/rows/{row_number}"): (
        "the same, with times; state and times of another account's pin are hidden"
    ),
    (
        "GET",
        "/v1/webhooks",
    ): "webhooks belong to the workspace; their deliveries are not shown",
    ("GET", "/v1/webhooks/{webhook_id}"): "the same",
}
"""Operations that a key's account list does not limit, with the reason."""


def _build_row(tenants: Tenants) -> dict[str, Any]:
    return rows_for(tenants.owner, 1, prefix=f"limited-{uuid4()}")[0]


def _build_schedule(tenants: Tenants) -> dict[str, Any]:
    return {**_build_row(tenants), "run_at": (datetime.now(UTC) + timedelta(days=9)).isoformat()}


def rows_fail(send: Callable[[httpx.Client, dict[str, Any]], httpx.Response]) -> Check:
    def check(tenants: Tenants) -> None:
        job = wait_for_job(tenants.limited, send(tenants.limited, _build_row(tenants)).json()["id"])
        (result,) = job["results"]
        assert (result["status"], result["error_code"], result["pin_id"]) == (
            "failed",
            "account_not_permitted",
            None,
        )

    return check


def _as_json(client: httpx.Client, row: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/pins/imports/json", json=[row])


def _as_csv(client: httpx.Client, row: dict[str, Any]) -> httpx.Response:
    text = f"{','.join(row)}\n{','.join(row.values())}\n"
    return client.post(
        "/v1/pins/imports/csv", files={"file": ("rows.csv", text.encode(), "text/csv")}
    )


def post_is_forbidden(path: str, build_body: Callable[[Tenants], dict[str, Any]]) -> Check:
    def check(tenants: Tenants) -> None:
        before = tenants.state()
        answer = tenants.limited.post(path, json=build_body(tenants))
        assert (answer.status_code, answer.json()["detail"]["code"]) == (
            HTTPStatus.FORBIDDEN,
            "account_not_permitted",
        )
        assert tenants.state() == before

    return check


def file_is_forbidden(name: str) -> Check:
    """Checks that the key gets no file with rows of other accounts."""

    def check(tenants: Tenants) -> None:
        answer = tenants.limited.get(f"/v1/pins/imports/{tenants.job['id']}/{name}")
        assert (answer.status_code, answer.json()["detail"]["code"]) == (
            HTTPStatus.FORBIDDEN,
            "account_not_permitted",
        )

    return check


def a_retry_of_another_accounts_row_is_forbidden(tenants: Tenants) -> None:
    """Checks that the key can't take over a row by correcting its account."""
    failing = {**_build_row(tenants), "title": " "}
    accepted = tenants.mine.post("/v1/pins/imports/json", json=[failing]).json()
    wait_for_job(tenants.mine, accepted["id"])
    correction = {"row_number": 1, "title": "Mine", "account_id": tenants.empty_account}
    answer = tenants.limited.post(
        f"/v1/pins/imports/{accepted['id']}/retry", json={"corrections": [correction]}
    )
    assert (answer.status_code, answer.json()["detail"]["code"]) == (
        HTTPStatus.FORBIDDEN,
        "account_not_permitted",
    )


def schedules_of_other_accounts_are_left(tenants: Tenants) -> None:
    before = tenants.state()
    path = f"/v1/pins/imports/{tenants.job['id']}/cancel?scheduled=true"
    answer = tenants.limited.post(path).json()
    assert answer["canceled_schedules"] == []
    assert [left["reason"] for left in answer["left"]] == ["account_not_permitted"]
    assert tenants.state() == before


def pins_of_other_accounts_are_not_undone(tenants: Tenants) -> None:
    before = tenants.state()
    path = f"/v1/pins/imports/{tenants.job['id']}/undo?dry_run=true"
    answer = tenants.limited.post(path).json()
    assert answer["undone"] == []
    assert [left["reason"] for left in answer["left"]] == ["account_not_permitted"] * 2
    assert tenants.state() == before


def dry_run_fails(path: str, build_body: Callable[[Tenants], dict[str, Any]]) -> Check:
    def check(tenants: Tenants) -> None:
        answer = tenants.limited.post(path, json=build_body(tenants)).json()
        failed = {
            check["name"]: check["code"]
            for check in answer["checks"]
            if check["status"] == "failed"
        }
        assert (answer["valid"], failed.get("account")) == (False, "account_not_permitted")

    return check


def a_batch_fails(tenants: Tenants) -> None:
    (result,) = tenants.limited.post("/v1/pins/batch", json={"pins": [_build_row(tenants)]}).json()[
        "results"
    ]
    assert (result["status"], result["error"]["code"]) == ("failed", "account_not_permitted")


def webhook_request_is_forbidden(method: str, path: str, body: object = None) -> Check:
    """Checks that the key may not create, change or delete webhooks or see deliveries.

    A webhook receives the events of every account of the workspace.
    """

    def check(tenants: Tenants) -> None:
        before = tenants.state()
        answer = tenants.limited.request(
            method, path.format(tenants.webhook, tenants.delivery), json=body
        )
        assert (answer.status_code, answer.json()["detail"]["code"]) == (
            HTTPStatus.FORBIDDEN,
            "account_not_permitted",
        )
        assert tenants.state() == before

    return check


def only_the_listed_account_is_seen(tenants: Tenants) -> None:
    assert [account["id"] for account in tenants.limited.get("/v1/pinterest/accounts").json()] == [
        tenants.empty_account
    ]


def only_keys_within_its_own_are_seen(tenants: Tenants) -> None:
    keys = tenants.limited.get("/v1/api-keys").json()
    assert {key["name"] for key in keys} == {"limited"}


def build_key(tenants: Tenants) -> dict[str, Any]:
    return {"name": "new key", "pinterest_account_ids": [tenants.account]}


PERMITTED: dict[Operation, Check] = {
    **{
        operation: check
        for operation, check in SCENARIOS.items()
        if operation not in NOT_LIMITED_BY_ACCOUNT
    },
    ("GET", "/v1/pins/imports/{job_id}/results.csv"): file_is_forbidden("results.csv"),
    ("GET", "/v1/pins/imports/{job_id}/failed.csv"): file_is_forbidden("failed.csv"),
    (
        "POST",
        "/v1/pins/imports/{job_id}/retry",
    ): a_retry_of_another_accounts_row_is_forbidden,
    ("POST", "/v1/pins/imports/{job_id}/cancel"): schedules_of_other_accounts_are_left,
    ("POST", "/v1/pins/imports/{job_id}/undo"): pins_of_other_accounts_are_not_undone,
    ("POST", "/v1/pins/imports/json"): rows_fail(_as_json),
    ("POST", "/v1/pins/imports/csv"): rows_fail(_as_csv),
    ("POST", "/v1/pins"): post_is_forbidden("/v1/pins", _build_row),
    ("POST", "/v1/pins/batch"): a_batch_fails,
    ("POST", "/v1/pins/validate"): dry_run_fails("/v1/pins/validate", _build_row),
    ("POST", "/v1/schedules"): post_is_forbidden("/v1/schedules", _build_schedule),
    ("POST", "/v1/schedules/validate"): dry_run_fails("/v1/schedules/validate", _build_schedule),
    ("GET", "/v1/pinterest/accounts"): only_the_listed_account_is_seen,
    ("GET", "/v1/api-keys"): only_keys_within_its_own_are_seen,
    ("POST", "/v1/api-keys"): post_is_forbidden("/v1/api-keys", build_key),
    ("POST", "/v1/pins/{pin_id}/retry"): changes_as_unknown(
        "POST", "/v1/pins/{}/retry", lambda tenants: tenants.pin
    ),
    ("POST", "/v1/webhooks"): webhook_request_is_forbidden(
        "POST", "/v1/webhooks", {"url": UNREACHABLE_URL, "secret": SECRET}
    ),
    ("PATCH", "/v1/webhooks/{webhook_id}"): webhook_request_is_forbidden(
        "PATCH", "/v1/webhooks/{}", {"url": UNREACHABLE_URL}
    ),
    ("DELETE", "/v1/webhooks/{webhook_id}"): webhook_request_is_forbidden(
        "DELETE", "/v1/webhooks/{}"
    ),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): webhook_request_is_forbidden(
        "GET", "/v1/webhooks/{}/deliveries"
    ),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): webhook_request_is_forbidden(
        "GET", "/v1/webhooks/{}/deliveries/{}"
    ),
    (
        "POST",
        "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend",
    ): webhook_request_is_forbidden("POST", "/v1/webhooks/{}/deliveries/{}/resend"),
}
"""The check of each operation. The default is the check for another workspace."""
