"""Tries to reach another workspace's data, endpoint by endpoint (invariant 10)."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from services.ingest.ids import new_job_id
from shared.access.board_ids import new_board_id
from tests.acceptance.rows import rows_for
from tests.acceptance.tenancy.checks import (
    Check,
    a_change,
    a_change_on_an_account,
    a_list,
    many,
    one_thing,
    without,
)
from tests.acceptance.tenancy.tenants import SECRET, Tenants
from tests.support.deployment import wait_for_job

Operation = tuple[str, str]


def pin(tenants: Tenants) -> str:
    return tenants.pin


def schedule(tenants: Tenants) -> str:
    return tenants.schedule


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


def no_board_access() -> str:
    return f"{new_board_id()}/access?account_id={uuid4()}"


def no_delivery() -> str:
    return f"{uuid4()}/deliveries/{uuid4()}"


def of_account(tenants: Tenants) -> str:
    return f"?account_id={tenants.account}"


def of_board(tenants: Tenants) -> str:
    return f"{of_account(tenants)}&board_id={tenants.board}"


def accounts_are_each_ones_own(tenants: Tenants) -> None:
    mine, theirs = (
        {one["id"] for one in client.get("/v1/pinterest/accounts").json()}
        for client in (tenants.mine, tenants.theirs)
    )
    assert mine == {str(account.id) for account in tenants.owner.accounts} | {tenants.empty_account}
    assert theirs == {str(account.id) for account in tenants.other.accounts}


def keys_are_each_ones_own(tenants: Tenants) -> None:
    mine, theirs = (
        {one["id"] for one in client.get("/v1/api-keys").json()}
        for client in (tenants.mine, tenants.theirs)
    )
    assert tenants.key in mine
    assert theirs
    assert not mine & theirs


def rows_for_a_foreign_account_fail_as_for_none(path: str) -> Check:
    """An import into the owner's account fails row by row, as one into an account that does not
    exist; the owner learns nothing of it.
    """

    def check(tenants: Tenants) -> None:
        foreign = rows_for(tenants.owner, 1, prefix=f"foreign-{uuid4()}")[0]
        absent = {**foreign, "account_id": str(uuid4()), "idempotency_key": f"absent-{uuid4()}"}
        taken = {
            **rows_for(tenants.other, 1, prefix="x")[0],
            "idempotency_key": "owned-1",
        }  # the owner's key is free to the other
        job = _imported(tenants, path, [foreign, absent, taken])
        one, another, third = job["results"]
        assert (one["status"], one["error_code"]) == ("failed", "account_not_found")
        assert without(one["error_message"], foreign["account_id"]) == without(
            another["error_message"], absent["account_id"]
        )
        assert third["status"] in {"created", "existing"}  # by the other scenario's import
        assert third["pin_id"] != tenants.pin
        assert tenants.mine.get(f"/v1/pins/imports/{job['id']}").status_code == HTTPStatus.NOT_FOUND

    return check


def _imported(tenants: Tenants, path: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    if path.endswith("csv"):
        names = list(rows[0])
        text = "\n".join(
            [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
        )
        accepted = tenants.theirs.post(
            path, files={"file": ("rows.csv", text.encode(), "text/csv")}
        )
    else:
        accepted = tenants.theirs.post(path, json=rows)
    return wait_for_job(tenants.theirs, accepted.json()["id"])


def a_pin_for_a_foreign_account_is_refused_as_for_none(tenants: Tenants) -> None:
    foreign = rows_for(tenants.owner, 1, prefix=f"direct-{uuid4()}")[0]
    _require_refused_alike(tenants, "/v1/pins", foreign)
    row = {**rows_for(tenants.other, 1, prefix="x")[0], "idempotency_key": "owned-1"}
    assert tenants.theirs.post("/v1/pins", json=row).json()["id"] != tenants.pin


def a_schedule_for_a_foreign_account_is_refused_as_for_none(tenants: Tenants) -> None:
    _require_refused_alike(tenants, "/v1/schedules", _later(tenants))


def _later(tenants: Tenants) -> dict[str, Any]:
    return {
        **rows_for(tenants.owner, 1, prefix=f"later-{uuid4()}")[0],
        "run_at": (datetime.now(UTC) + timedelta(days=9)).isoformat(),
    }


def _require_refused_alike(tenants: Tenants, path: str, asked: dict[str, Any]) -> None:
    unknown = str(uuid4())
    refused, absent = (
        tenants.theirs.post(path, json=asked),
        tenants.theirs.post(path, json={**asked, "account_id": unknown}),
    )
    assert without(refused.text, asked["account_id"]) == without(absent.text, unknown)
    assert refused.status_code == absent.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert refused.json()["detail"]["code"] == "account_not_found"


def a_batch_for_a_foreign_account_fails_as_for_none(tenants: Tenants) -> None:
    foreign = rows_for(tenants.owner, 1, prefix=f"batch-{uuid4()}")[0]
    absent = {**foreign, "account_id": str(uuid4())}
    taken = {**rows_for(tenants.other, 1, prefix="x")[0], "idempotency_key": "owned-1"}
    one, another, third = tenants.theirs.post(
        "/v1/pins/batch", json={"pins": [foreign, absent, taken]}
    ).json()["results"]
    assert one["error"]["code"] == "account_not_found"
    assert without(str(one["error"]), foreign["account_id"]) == without(
        str(another["error"]), absent["account_id"]
    )
    assert third["pin"]["id"] != tenants.pin


def a_dry_run_tells_nothing(path: str) -> Check:
    """Neither of the owner's account nor of its keys."""

    def check(tenants: Tenants) -> None:
        foreign = {**_later(tenants), "idempotency_key": "owned-1"}
        unknown = str(uuid4())
        one, another = (
            tenants.theirs.post(path, json=foreign),
            tenants.theirs.post(path, json={**foreign, "account_id": unknown}),
        )
        assert (one.status_code, one.json()["valid"]) == (HTTPStatus.OK, False)
        assert one.json()["existing_pin_id"] != tenants.pin
        assert without(one.text, foreign["account_id"]) == without(another.text, unknown)

    return check


def a_retry_elsewhere_finds_no_foreign_account(tenants: Tenants) -> None:
    a_change(
        "POST", "/v1/pins/{}/retry", pin, {"account_id": tenants.account, "board_id": tenants.board}
    )(tenants)


def a_key_for_a_foreign_account_is_refused_as_for_none(tenants: Tenants) -> None:
    unknown = str(uuid4())
    refused, absent = (
        tenants.theirs.post("/v1/api-keys", json={"name": "mine?", "pinterest_account_ids": [one]})
        for one in (tenants.account, unknown)
    )
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert without(refused.text, tenants.account) == without(absent.text, unknown)


def a_webhook_is_told_of_ones_own_only(tenants: Tenants) -> None:
    body = {"url": "https://hooks.invalid/theirs", "secret": SECRET, "events": ["import.completed"]}
    mine = tenants.theirs.post("/v1/webhooks", json=body).json()["id"]
    assert mine not in {one["id"] for one in tenants.mine.get("/v1/webhooks").json()}
    tenants.theirs.delete(f"/v1/webhooks/{mine}").raise_for_status()


SCENARIOS: dict[Operation, Check] = {
    ("GET", "/v1/pins/imports"): a_list(
        "/v1/pins/imports", lambda _: "?status=completed", lambda _: "?source_type=json"
    ),
    ("GET", "/v1/pins/imports/{job_id}"): one_thing(
        "/v1/pins/imports/{}",
        lambda tenants: tenants.job["id"],
        lambda: new_job_id(datetime.now(UTC)),
    ),
    ("POST", "/v1/pins/imports/json"): rows_for_a_foreign_account_fail_as_for_none(
        "/v1/pins/imports/json"
    ),
    ("POST", "/v1/pins/imports/csv"): rows_for_a_foreign_account_fail_as_for_none(
        "/v1/pins/imports/csv"
    ),
    ("GET", "/v1/pins"): a_list(
        "/v1/pins", of_account, of_board, lambda _: "?q=Lamp", lambda _: "?sort=title_asc"
    ),
    ("POST", "/v1/pins"): a_pin_for_a_foreign_account_is_refused_as_for_none,
    ("POST", "/v1/pins/batch"): a_batch_for_a_foreign_account_fails_as_for_none,
    ("POST", "/v1/pins/validate"): a_dry_run_tells_nothing("/v1/pins/validate"),
    ("GET", "/v1/pins/{pin_id}"): one_thing("/v1/pins/{}", pin),
    ("PATCH", "/v1/pins/{pin_id}"): a_change("PATCH", "/v1/pins/{}", pin, {"title": "Theirs"}),
    ("DELETE", "/v1/pins/{pin_id}"): a_change("DELETE", "/v1/pins/{}", pin),
    ("POST", "/v1/pins/{pin_id}/retry"): a_retry_elsewhere_finds_no_foreign_account,
    ("POST", "/v1/pins/bulk-delete"): many("/v1/pins/bulk-delete", pin),
    ("POST", "/v1/pins/bulk-retry"): many("/v1/pins/bulk-retry", pin),
    ("GET", "/v1/jobs/{job_id}"): one_thing("/v1/jobs/{}", pin),
    ("GET", "/v1/schedules"): a_list(
        "/v1/schedules", of_account, of_board, lambda _: "?q=Lamp", lambda _: "?sort=title_asc"
    ),
    ("POST", "/v1/schedules"): a_schedule_for_a_foreign_account_is_refused_as_for_none,
    ("POST", "/v1/schedules/validate"): a_dry_run_tells_nothing("/v1/schedules/validate"),
    ("GET", "/v1/schedules/{schedule_id}"): one_thing("/v1/schedules/{}", schedule),
    ("PATCH", "/v1/schedules/{schedule_id}"): a_change(
        "PATCH", "/v1/schedules/{}", schedule, {"title": "Theirs"}
    ),
    ("DELETE", "/v1/schedules/{schedule_id}"): a_change("DELETE", "/v1/schedules/{}", schedule),
    ("POST", "/v1/schedules/{schedule_id}/cancel"): a_change(
        "POST", "/v1/schedules/{}/cancel", schedule
    ),
    ("POST", "/v1/schedules/{schedule_id}/retry"): a_change(
        "POST", "/v1/schedules/{}/retry", schedule
    ),
    ("POST", "/v1/schedules/bulk-cancel"): many("/v1/schedules/bulk-cancel", schedule),
    ("POST", "/v1/schedules/bulk-retry"): many("/v1/schedules/bulk-retry", schedule),
    ("POST", "/v1/schedules/bulk-delete"): many("/v1/schedules/bulk-delete", schedule),
    ("GET", "/v1/pinterest/accounts"): accounts_are_each_ones_own,
    ("DELETE", "/v1/pinterest/accounts/{account_id}"): a_change(
        "DELETE", "/v1/pinterest/accounts/{}", account
    ),
    ("GET", "/v1/pinterest/boards"): one_thing("/v1/pinterest/boards?account_id={}", account),
    ("POST", "/v1/pinterest/boards"): a_change_on_an_account(
        "POST", "/v1/pinterest/boards", {"name": "Theirs"}, in_body=True
    ),
    ("PATCH", "/v1/pinterest/boards/{board_id}"): a_change_on_an_account(
        "PATCH", "/v1/pinterest/boards/{board}", {"name": "Theirs"}, in_body=True
    ),
    ("DELETE", "/v1/pinterest/boards/{board_id}"): a_change_on_an_account(
        "DELETE", "/v1/pinterest/boards/{board}", {}, in_body=False
    ),
    ("GET", "/v1/pinterest/boards/{board_id}/access"): one_thing(
        "/v1/pinterest/boards/{}", board_access, no_board_access
    ),
    ("GET", "/v1/rate-meter"): one_thing("/v1/rate-meter?account_id={}", account),
    ("GET", "/v1/api-keys"): keys_are_each_ones_own,
    ("POST", "/v1/api-keys"): a_key_for_a_foreign_account_is_refused_as_for_none,
    ("PATCH", "/v1/api-keys/{key_id}"): a_change(
        "PATCH", "/v1/api-keys/{}", key, {"name": "theirs"}
    ),
    ("DELETE", "/v1/api-keys/{key_id}"): a_change("DELETE", "/v1/api-keys/{}", key),
    ("GET", "/v1/webhooks"): a_list("/v1/webhooks"),
    ("POST", "/v1/webhooks"): a_webhook_is_told_of_ones_own_only,
    ("GET", "/v1/webhooks/{webhook_id}"): one_thing("/v1/webhooks/{}", webhook),
    ("PATCH", "/v1/webhooks/{webhook_id}"): a_change(
        "PATCH", "/v1/webhooks/{}", webhook, {"is_enabled": False}
    ),
    ("DELETE", "/v1/webhooks/{webhook_id}"): a_change("DELETE", "/v1/webhooks/{}", webhook),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): one_thing(
        "/v1/webhooks/{}/deliveries", webhook
    ),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): one_thing(
        "/v1/webhooks/{}", delivery, no_delivery
    ),
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"): a_change(
        "POST", "/v1/webhooks/{}/resend", delivery, unknown=no_delivery
    ),
}
