"""Imports through the gateway: every row has a result, in order, even if some rows fail."""

import csv
import io
from typing import Any

import httpx

from deploy.administration import NewWorkspace
from deploy.demo.make_campaign import CAMPAIGN, MISTAKES, build_campaign, fill_campaign
from tests.acceptance.conftest import new_workspace
from tests.acceptance.patience import get_known
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, wait_for_job

MISTAKES_IN_JSON: dict[int, dict[str, Any]] = {
    3: {"title": " "},
    77: {"board_id": "nowhere"},
    78: {"account_id": "1f0d7e9c-0000-4000-8000-000000000000"},
    200: {"run_at": "2031-01-01T00:00:00"},
    201: {"title": "x" * 101},
    300: {"image_url": "ftp://cdn.example/a.jpg"},
    499: {"asset_id": "1f0d7e9c-0000-4000-8000-000000000000"},
    500: {"idempotency_key": ""},
}


def submit(client: httpx.Client, rows: list[dict[str, Any]]) -> dict[str, Any]:
    answer = client.post("/v1/pins/imports/json", json=rows)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/pins/imports/{answer.json()['id']}"
    return wait_for_job(client, answer.json()["id"])


def counters(job: dict[str, Any]) -> tuple[int, int, int, int]:
    return job["total_rows"], job["created_rows"], job["existing_rows"], job["failed_rows"]


def test_500_rows_with_mixed_faults_give_exact_counters_and_results_in_order(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 500, prefix="mixed")
    for number, mistake in MISTAKES_IN_JSON.items():
        rows[number - 1] = {**rows[number - 1], **mistake}
    rows[9]["idempotency_key"] = rows[8]["idempotency_key"]
    job = submit(client, rows)
    assert counters(job) == (500, 491, 1, 8)
    assert job["status"] == "completed_with_errors"
    assert [result["row_number"] for result in job["results"]] == list(range(1, 501))
    failed = {result["row_number"] for result in job["results"] if result["status"] == "failed"}
    assert failed == set(MISTAKES_IN_JSON)
    assert job["results"][2]["error_message"] == "title: must not be blank"
    assert job["results"][76]["error_code"] == "board_not_found"
    assert job["results"][77]["error_code"] == "account_not_found"
    assert (job["results"][8]["status"], job["results"][9]["status"]) == ("created", "existing")
    assert job["results"][9]["payload_matches"] is False


def test_invariant_3_the_same_import_again_publishes_nothing(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 500, prefix="again")
    first, second = submit(client, rows), submit(client, rows)
    assert counters(first) == (500, 500, 0, 0)
    assert counters(second) == (500, 0, 500, 0)
    assert [r["pin_id"] for r in first["results"]] == [r["pin_id"] for r in second["results"]]
    assert client.get("/v1/pins?limit=1").headers["x-total-count"] == "500"


def test_invariant_6_a_failed_row_can_be_sent_again_corrected(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    (row,) = rows_for(workspace, 1, prefix="corrected")
    assert counters(submit(client, [{**row, "board_id": "nowhere"}])) == (1, 0, 0, 1)
    assert counters(submit(client, [row])) == (1, 1, 0, 0)


def test_invariant_7_a_jobs_pins_are_listed_in_row_order(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    submit(client, rows_for(workspace, 40, prefix="ordered"))
    pins = client.get("/v1/pins?limit=200").json()
    assert [pin["idempotency_key"] for pin in pins] == [
        f"ordered-{number}" for number in range(40, 0, -1)
    ]


def test_invariant_10_another_workspaces_job_and_pin_do_not_exist(
    client: httpx.Client, workspace: NewWorkspace, pinflow: Deployment
) -> None:
    job = submit(client, rows_for(workspace, 1, prefix="mine"))
    other = {"X-API-Key": new_workspace(pinflow.database_url, "Other").api_key}
    pin_id = job["results"][0]["pin_id"]
    for path in (f"/v1/pins/imports/{job['id']}", f"/v1/pins/{pin_id}"):
        assert client.get(path).status_code == 200
        answer = client.get(path, headers=other)
        assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")
    assert client.get("/v1/pins", headers=other).json() == []


def test_a_read_right_after_the_202_never_sees_404(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    for number in range(30):
        accepted = client.post(
            "/v1/pins/imports/json", json=rows_for(workspace, 2, prefix=f"raw-{number}")
        ).json()
        assert get_known(client, f"/v1/pins/imports/{accepted['id']}").status_code == 200


def test_the_demo_campaign_has_the_documented_mistakes(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    assert CAMPAIGN.read_text(encoding="utf-8") == build_campaign()
    text = fill_campaign([(str(account.id), account.boards) for account in workspace.accounts])
    known = {board for account in workspace.accounts for board in account.boards}
    named = {row["board_id"] for row in csv.DictReader(io.StringIO(text))}
    # Accounts of this workspace have three boards, those of the demo five
    unknown = {f"BOARD_{account}_{board}" for account in (1, 2) for board in (4, 5)}
    assert named == known | unknown | {MISTAKES[87]["board_id"]}
    accepted = client.post(
        "/v1/pins/imports/csv", files={"file": ("campaign.csv", text.encode(), "text/csv")}
    ).json()
    job = wait_for_job(client, accepted["id"])
    assert job["source_filename"] == "campaign.csv"
    failed = {r["row_number"]: r["error_code"] for r in job["results"] if r["status"] == "failed"}
    assert {number for number, code in failed.items() if code != "board_not_found"} == set(
        MISTAKES
    ) - {87}
