"""Dry runs and idempotency keys of imports, through the gateway and all services."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import wait_for_job

LATER = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0).isoformat()
COUNTS = ("total_rows", "created_rows", "existing_rows", "failed_rows")
IN_ADVANCE = (*COUNTS, "publishing_now", "scheduled_for_later", "warnings")


def import_rows(
    client: httpx.Client, rows: list[dict[str, Any]], query: str = ""
) -> dict[str, Any]:
    answer = client.post(f"/v1/pins/imports/json{query}", json=rows)
    assert answer.status_code == 202, answer.text
    return wait_for_job(client, answer.json()["id"])


def check_rows(client: httpx.Client, rows: list[dict[str, Any]], query: str = "") -> dict[str, Any]:
    separator = "&" if query else "?"
    answer = client.post(f"/v1/pins/imports/json{query}{separator}dry_run=true", json=rows)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("on_existing", ["report", "update", "revive"])
def test_a_dry_run_equals_the_import_row_by_row(
    client: httpx.Client, workspace: NewWorkspace, on_existing: str
) -> None:
    stored = rows_for(workspace, 3, prefix="stored")
    scheduled = rows_for(workspace, 3, prefix="scheduled", run_at=LATER)
    first = import_rows(client, [*stored, *scheduled])
    canceled = first["results"][5]["schedule_id"]
    assert client.post(f"/v1/schedules/{canceled}/cancel").status_code == 200
    assert client.delete(f"/v1/pins/{first['results'][2]['pin_id']}").status_code < 300
    new = rows_for(workspace, 4, prefix="new")
    rows = [
        new[0],
        {**new[1], "run_at": LATER},
        {**new[2], "title": " "},
        {**new[3], "board_id": "nowhere"},
        stored[0],
        {**stored[1], "title": "Another title"},
        stored[2],
        {**scheduled[0], "title": "Another title"},
        {**scheduled[1], "run_at": None},
        scheduled[2],
        {**new[0], "title": "The key of an earlier row"},
    ]
    query = f"?on_existing={on_existing}"
    checked = check_rows(client, rows, query)
    assert check_rows(client, rows, query)["results"] == checked["results"]  # nothing was written
    job = import_rows(client, rows, query)
    assert checked["results"] == job["results"]
    assert {name: checked[name] for name in IN_ADVANCE} == {name: job[name] for name in IN_ADVANCE}


def test_a_dry_run_of_500_rows_is_answered_completely(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 500, prefix="many")
    checked = check_rows(client, rows)
    assert [checked[name] for name in COUNTS] == [500, 500, 0, 0]
    assert client.get("/v1/pins").json() == []
    assert client.get("/v1/pins/imports").json() == []


def test_an_import_with_a_key_is_one_job_however_often_it_is_sent(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 3, prefix="once")
    answers = [
        client.post("/v1/pins/imports/json", json=rows, headers={"Idempotency-Key": "campaign"})
        for _ in range(3)
    ]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [
        None,
        "true",
        "true",
    ]
    assert len({answer.content for answer in answers}) == 1
    job = wait_for_job(client, answers[0].json()["id"])
    assert [job[name] for name in COUNTS] == [3, 3, 0, 0]
    assert len(client.get("/v1/pins/imports").json()) == 1
