"""Imports are mended, canceled, undone and followed through the gateway."""

import csv
import io
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx

from deploy.administration import NewWorkspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import wait_for_job
from tests.support.waiting import wait_until

FORMULA = '=HYPERLINK("https://evil.example")'
LATER = (datetime.now(UTC) + timedelta(days=30)).isoformat()


def upload(client: httpx.Client, data: bytes, query: str = "") -> dict[str, Any]:
    answer = client.post(
        f"/v1/pins/imports/csv{query}", files={"file": ("autumn lamps.csv", data, "text/csv")}
    )
    assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
    return wait_for_job(client, answer.json()["id"])


def write_csv(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def read_statuses(job: dict[str, Any]) -> list[str]:
    return [result["status"] for result in job["results"]]


def build_rows(workspace: NewWorkspace, prefix: str) -> list[dict[str, Any]]:
    """Builds 4 rows. Rows 2 and 4 fail: one in ingest, the other in the publisher."""
    rows = rows_for(workspace, 4, prefix=prefix)
    rows[1] |= {"title": "", "description": FORMULA}
    rows[2] |= {"description": "'quoted"}
    rows[3] |= {"board_id": "1034280089391227000"}
    return rows


def test_failed_rows_are_mended_in_their_file_and_uploaded_again(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = build_rows(workspace, "mended")
    job = upload(client, write_csv(rows))
    assert read_statuses(job) == ["created", "failed", "created", "failed"]
    assert job["error_counts"] == {"validation_error": 1, "board_not_found": 1}
    path = f"/v1/pins/imports/{job['id']}"
    failed = client.get(f"{path}/results", params={"status": "failed"}).json()
    assert [result["line"] for result in failed] == [3, 5]
    answer = client.get(f"{path}/failed.csv")
    assert 'filename="autumn_lamps-failed.csv"' in answer.headers["content-disposition"]
    text = answer.content.decode("utf-8-sig")
    mended = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";"))
    assert [row["error_code"] for row in mended] == ["validation_error", "board_not_found"]
    assert mended[0]["description"] == f"'{FORMULA}"
    mended[0]["title"], mended[1]["board_id"] = "Desk lamp", rows[1]["board_id"]
    mended[1]["account_id"] = rows[1]["account_id"]
    child = upload(client, write_csv(mended))
    assert (read_statuses(child), child["warnings"]) == (["created", "created"], [])
    pin = client.get(f"/v1/pins/{child['results'][0]['pin_id']}").json()
    assert (pin["title"], pin["description"]) == ("Desk lamp", FORMULA)
    # The whole file with results can be uploaded again as well
    whole = upload(client, client.get(f"{path}/results.csv").content)
    assert read_statuses(whole) == ["existing", "failed", "existing", "existing"]
    matches = [result["payload_matches"] for result in whole["results"]]
    assert matches == [True, None, True, False]


def test_failed_rows_are_retried_with_corrections_once(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = build_rows(workspace, "retried")
    job = upload(client, write_csv(rows))
    path = f"/v1/pins/imports/{job['id']}/retry"
    body = {"corrections": [{"row_number": 2, "title": "Desk lamp"}]}
    answers = [client.post(path, json=body) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {HTTPStatus.ACCEPTED}
    assert len({answer.json()["id"] for answer in answers}) == 1
    replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
    assert replayed == [None, "true", "true"]
    child = wait_for_job(client, answers[0].json()["id"])
    assert (child["parent_id"], child["source_type"]) == (job["id"], "csv")
    assert read_statuses(child) == ["created", "failed"]
    assert [result["line"] for result in child["results"]] == [3, 5]
    # What still fails is retried from the child
    correction = {"account_id": rows[1]["account_id"], "board_id": rows[1]["board_id"]}
    answer = client.post(
        f"/v1/pins/imports/{child['id']}/retry",
        json={"corrections": [{"row_number": 2, **correction}]},
    )
    grandchild = wait_for_job(client, answer.json()["id"])
    assert [(result["status"], result["line"]) for result in grandchild["results"]] == [
        ("created", 5)
    ]
    answer = client.post(f"/v1/pins/imports/{grandchild['id']}/retry")
    assert (answer.status_code, answer.json()["detail"]["code"]) == (409, "no_failed_rows")


def test_an_import_is_undone_once_and_its_keys_are_free(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 3, prefix="undone")
    rows[1]["run_at"] = LATER
    rows[2]["run_at"] = LATER
    job = upload(client, write_csv([{"run_at": "", **row} for row in rows]))
    assert read_statuses(job) == ["created"] * 3
    edited = job["results"][2]["schedule_id"]
    client.patch(f"/v1/schedules/{edited}", json={"title": "Edited"}).raise_for_status()
    path = f"/v1/pins/imports/{job['id']}/undo"
    plan = client.post(f"{path}?dry_run=true").json()
    assert (plan["undone_rows"], plan["left_rows"], plan["undo_id"]) == (2, 1, None)
    first, second = (client.post(path) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    undone = first.json()
    assert (undone["undone"], undone["left"]) == (plan["undone"], plan["left"])
    assert [row["action"] for row in undone["undone"]] == ["deleted", "canceled"]
    assert undone["left"][0]["schedule_id"] == edited
    again = upload(client, write_csv([{"run_at": "", **row} for row in rows]))
    assert read_statuses(again) == ["created", "created", "existing"]
    assert read_statuses(client.get(f"/v1/pins/imports/{job['id']}").json()) == ["created"] * 3


def test_the_schedules_of_an_import_are_canceled(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 2, prefix="canceled", run_at=LATER)
    job = upload(client, write_csv(rows))
    path = f"/v1/pins/imports/{job['id']}/cancel"
    assert client.post(path).json()["canceled_schedules"] == []
    for _ in range(2):
        document = client.post(f"{path}?scheduled=true").json()
        assert (document["status"], document["left"]) == ("completed", [])
    for result in job["results"]:
        schedule = client.get(f"/v1/schedules/{result['schedule_id']}").json()
        assert schedule["status"] == "canceled"


def test_a_rows_timeline_has_its_events_in_time_order(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = build_rows(workspace, "followed")
    job = upload(client, write_csv(rows))
    path = f"/v1/pins/imports/{job['id']}/rows"
    timelines: list[dict[str, Any]] = []

    def name_events() -> set[str]:
        timelines.append(client.get(f"{path}/1").json())
        return {event["event"] for event in timelines[-1]["events"]}

    # The publisher's part is missing if it needs more than 3 s on a busy machine
    wait_until(lambda: "stored" in name_events())
    created, failed = timelines[-1], client.get(f"{path}/2").json()
    events = {event["event"] for event in created["events"]}
    assert {"accepted", "stored", "published", "settled"} <= events
    assert (created["state"], created["waiting"], created["line"]) == ("published", None, 2)
    times = [event["at"] for event in created["events"]]
    assert None not in times
    assert times == sorted(times)
    assert [event["event"] for event in failed["events"]] == ["accepted", "settled"]
    assert client.get(f"{path}/5").status_code == HTTPStatus.NOT_FOUND
