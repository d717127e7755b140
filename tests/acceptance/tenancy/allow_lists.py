"""How a key of the owner's own workspace tries to get at accounts that are not on its list,
endpoint by endpoint.

What is read is as if it did not exist; publishing there is refused by name.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx

from tests.acceptance.rows import rows_for
from tests.acceptance.tenancy.checks import Check, a_change
from tests.acceptance.tenancy.tenants import NOWHERE, SECRET, Tenants
from tests.acceptance.tenancy.workspaces import SCENARIOS, Operation
from tests.support.deployment import wait_for_job

OF_THE_WORKSPACE: dict[Operation, str] = {
    (
        "GET",
        "/v1/pins/imports",
    ): "an import belongs to the workspace: its results hold ids and faults, no content",
    ("GET", "/v1/pins/imports/{job_id}"): "the same",
    (
        "GET",
        "/v1/webhooks",
    ): "what webhooks there are is the workspace's; what they are told is not shown",
    ("GET", "/v1/webhooks/{webhook_id}"): "the same",
    ("DELETE", "/v1/webhooks/{webhook_id}"): "the same: who may destroy may end it",
}
"""What a list of accounts has no say in, and why."""


def _asked(tenants: Tenants) -> dict[str, Any]:
    return rows_for(tenants.owner, 1, prefix=f"limited-{uuid4()}")[0]


def _later(tenants: Tenants) -> dict[str, Any]:
    return {**_asked(tenants), "run_at": (datetime.now(UTC) + timedelta(days=9)).isoformat()}


def rows_fail(send: Callable[[httpx.Client, dict[str, Any]], httpx.Response]) -> Check:
    def check(tenants: Tenants) -> None:
        job = wait_for_job(tenants.limited, send(tenants.limited, _asked(tenants)).json()["id"])
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


def refused(path: str, asked: Callable[[Tenants], dict[str, Any]]) -> Check:
    def check(tenants: Tenants) -> None:
        before = tenants.state()
        answer = tenants.limited.post(path, json=asked(tenants))
        assert (answer.status_code, answer.json()["detail"]["code"]) == (
            HTTPStatus.FORBIDDEN,
            "account_not_permitted",
        )
        assert tenants.state() == before

    return check


def found_wanting(path: str, asked: Callable[[Tenants], dict[str, Any]]) -> Check:
    def check(tenants: Tenants) -> None:
        answer = tenants.limited.post(path, json=asked(tenants)).json()
        failed = {
            check["name"]: check["code"]
            for check in answer["checks"]
            if check["status"] == "failed"
        }
        assert (answer["valid"], failed.get("account")) == (False, "account_not_permitted")

    return check


def a_batch_fails(tenants: Tenants) -> None:
    (result,) = tenants.limited.post("/v1/pins/batch", json={"pins": [_asked(tenants)]}).json()[
        "results"
    ]
    assert (result["status"], result["error"]["code"]) == ("failed", "account_not_permitted")


def out_of_reach(method: str, path: str, body: object = None) -> Check:
    """Webhooks are told of every account: of what they were told nothing is shown, and none is made
    or changed.
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
    assert [one["id"] for one in tenants.limited.get("/v1/pinterest/accounts").json()] == [
        tenants.empty_account
    ]


def only_keys_within_its_own_are_seen(tenants: Tenants) -> None:
    keys = tenants.limited.get("/v1/api-keys").json()
    assert {key["name"] for key in keys} == {"limited"}


def a_key(tenants: Tenants) -> dict[str, Any]:
    return {"name": "heir", "pinterest_account_ids": [tenants.account]}


PERMITTED: dict[Operation, Check] = {
    **{
        operation: check
        for operation, check in SCENARIOS.items()
        if operation not in OF_THE_WORKSPACE
    },
    ("POST", "/v1/pins/imports/json"): rows_fail(_as_json),
    ("POST", "/v1/pins/imports/csv"): rows_fail(_as_csv),
    ("POST", "/v1/pins"): refused("/v1/pins", _asked),
    ("POST", "/v1/pins/batch"): a_batch_fails,
    ("POST", "/v1/pins/validate"): found_wanting("/v1/pins/validate", _asked),
    ("POST", "/v1/schedules"): refused("/v1/schedules", _later),
    ("POST", "/v1/schedules/validate"): found_wanting("/v1/schedules/validate", _later),
    ("GET", "/v1/pinterest/accounts"): only_the_listed_account_is_seen,
    ("GET", "/v1/api-keys"): only_keys_within_its_own_are_seen,
    ("POST", "/v1/api-keys"): refused("/v1/api-keys", a_key),
    ("POST", "/v1/pins/{pin_id}/retry"): a_change(
        "POST", "/v1/pins/{}/retry", lambda tenants: tenants.pin
    ),
    ("POST", "/v1/webhooks"): out_of_reach(
        "POST", "/v1/webhooks", {"url": NOWHERE, "secret": SECRET}
    ),
    ("PATCH", "/v1/webhooks/{webhook_id}"): out_of_reach(
        "PATCH", "/v1/webhooks/{}", {"url": NOWHERE}
    ),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): out_of_reach(
        "GET", "/v1/webhooks/{}/deliveries"
    ),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): out_of_reach(
        "GET", "/v1/webhooks/{}/deliveries/{}"
    ),
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"): out_of_reach(
        "POST", "/v1/webhooks/{}/deliveries/{}/resend"
    ),
}
"""Where nothing else is said, the key fares as another workspace does."""
