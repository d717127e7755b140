"""Retry, cancel, undo and the timeline of a row, against servers that answer as the services do."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from shared.contract.events import OnExisting, UploadFormat, UploadParameters
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.status.steering import Steering, refuse
from tests.support.factories import NOON, created_result, failed_result, rows_settled, submitted_row

CHILD = "0199c0de-7a51-7c3e-9a5b-2f4d6e8a0b1c"
RESULTS = [created_result(1, line=2), failed_result(2, line=3), failed_result(3, line=4)]
JOB = "/v1/pins/imports/{}"
COMMANDS = ("retry", "cancel", "undo")


def build_csv(account: object) -> bytes:
    header = "title,board_id,account_id,idempotency_key,price\n"
    return (
        header + "".join(f"=t{number},1,{account},k{number},9\n" for number in (1, 2, 3))
    ).encode()


def accept_child(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": CHILD,
        "workspace_id": document["workspace_id"],
        "source_type": document["source_type"],
        "status": "queued",
        "total_rows": len(document["rows"]),
        "results": [],
        "is_replay": False,
    }


async def post(
    steering: Steering,
    workspace: Workspace,
    path: str,
    body: object = None,
    key: str | None = None,
) -> Any:
    content = None if body is None else orjson.dumps(body)
    headers = {"X-API-Key": key or workspace.api_key}
    if content is not None:
        headers["Content-Type"] = "application/json"
    return await steering.http.post(JOB.format(path), content=content, headers=headers)


def read_error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


async def test_a_retry_sends_the_failed_rows_with_their_lines_and_parameters(
    steering: Steering, workspace: Workspace
) -> None:
    parameters = UploadParameters(timezone="Europe/Berlin", on_existing=OnExisting.UPDATE)
    job = await steering.store(
        workspace.id,
        build_csv(workspace.account_id),
        RESULTS,
        parameters=parameters,
        source_filename="a.csv",
    )
    steering.ingest.answers["imports"] = accept_child
    answer = await post(steering, workspace, f"{job.job_id}/retry")
    assert answer.status_code == HTTPStatus.ACCEPTED
    assert answer.headers["location"] == f"/v1/pins/imports/{CHILD}"
    assert "idempotent-replayed" not in answer.headers
    child = answer.json()
    assert (child["id"], child["parent_id"], child["total_rows"]) == (CHILD, str(job.job_id), 2)
    (sent,) = steering.ingest.documents("imports")
    account = str(workspace.account_id)
    assert sent["rows"] == [
        {"title": f"=t{n}", "board_id": "1", "account_id": account, "idempotency_key": f"k{n}"}
        for n in (2, 3)
    ]
    assert sent["lines"] == [3, 4]
    assert sent["parameters"] == {"timezone": "Europe/Berlin", "on_existing": "update"}
    assert (sent["workspace_id"], sent["parent_id"]) == (str(workspace.id), str(job.job_id))
    assert (sent["source_type"], sent["source_filename"]) == ("csv", "a.csv")
    assert sent["account_ids"] is None


async def test_corrections_replace_fields_and_decide_the_key(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, build_csv(workspace.account_id), RESULTS)
    steering.ingest.answers["imports"] = accept_child
    first = {"row_number": 3, "title": "Lamp", "idempotency_key": None}
    second = {"row_number": 2, "board_id": "7"}
    for corrections in ([first, second], [second, first], [first], []):
        answer = await post(
            steering, workspace, f"{job.job_id}/retry", {"corrections": corrections}
        )
        assert answer.status_code == HTTPStatus.ACCEPTED
    await post(steering, workspace, f"{job.job_id}/retry")
    sent = steering.ingest.documents("imports")
    keys = [document["key"] for document in sent]
    assert keys[0] == keys[1]
    assert keys[3] == keys[4]
    assert len(set(keys)) == 3
    assert all(key.startswith(f"{job.job_id}:") and len(key) <= 255 for key in keys)
    row_2, row_3 = sent[0]["rows"]
    assert (row_2["board_id"], row_2["title"]) == ("7", "=t2")
    assert row_3["title"] == "Lamp"
    assert "idempotency_key" not in row_3


async def test_a_repeated_retry_says_that_it_is_one(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, build_csv(workspace.account_id), RESULTS)
    steering.ingest.answers["imports"] = lambda document: {
        **accept_child(document),
        "is_replay": True,
    }
    answer = await post(steering, workspace, f"{job.job_id}/retry")
    assert answer.headers["idempotent-replayed"] == "true"
    assert "is_replay" not in answer.json()


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"corrections": [{"row_number": 9, "title": "x"}]}, "corrections", "unknown_row"),
        ({"corrections": [{"row_number": 1, "title": "x"}]}, "corrections", "row_not_failed"),
        (
            {"corrections": [{"row_number": 2, "titel": "x"}]},
            "corrections.0.titel",
            "unknown_field",
        ),
        ({"corrections": [{"row_number": 2}]}, "corrections.0", "missing"),
        (
            {"corrections": [{"row_number": True, "title": "x"}]},
            "corrections.0.row_number",
            "int_type",
        ),
        ({"corrections": [{"title": "x"}]}, "corrections.0.row_number", "int_type"),
        ({"corrections": [5]}, "corrections.0", "dict_type"),
        ({"corrections": {}}, "corrections", "list_type"),
        ({"correction": []}, "correction", "unknown_field"),
        (
            {"corrections": [{"row_number": 2, "title": "x"}, {"row_number": 2, "title": "y"}]},
            "corrections.1.row_number",
            "duplicate_row",
        ),
    ],
)
async def test_a_wrong_correction_is_named(
    steering: Steering, workspace: Workspace, body: object, field: str, code: str
) -> None:
    job = await steering.store(workspace.id, build_csv(workspace.account_id), RESULTS)
    answer = await post(steering, workspace, f"{job.job_id}/retry", body)
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    (fault,) = answer.json()["detail"]["errors"]
    assert (fault["field"], fault["code"]) == (field, code)
    assert fault["message"].endswith((".", "?"))
    assert steering.ingest.received == []


async def test_a_retry_needs_an_ended_import_with_failed_rows_and_its_file(
    steering: Steering, workspace: Workspace
) -> None:
    data = build_csv(workspace.account_id)
    running = await steering.store(workspace.id, data, RESULTS[:2], total_rows=3)
    complete = await steering.store(workspace.id, data, RESULTS[:1])
    without_file = await steering.store(workspace.id, None, RESULTS)
    for job, error in (
        (running, (409, "job_not_finished")),
        (complete, (409, "no_failed_rows")),
        (without_file, (410, "upload_expired")),
    ):
        assert read_error(await post(steering, workspace, f"{job.job_id}/retry")) == error


async def test_a_retry_of_json_keeps_values_and_drops_other_names_of_corrected_fields(
    steering: Steering, workspace: Workspace
) -> None:
    account = str(workspace.account_id)
    rows = [
        submitted_row(account_id=account, related_terms=["a"], Headline="x", title=None),
        submitted_row(account_id=account, titel="y", price=2**70),
    ]
    data = b"[%b,%b]" % (
        orjson.dumps(rows[0]),
        orjson.dumps({**rows[1], "price": 0, "alt_text": "?"})
        .replace(b'"price":0', b'"price":1180591620717411303424')
        .replace(b'"?"', b'"\\ud800"'),
    )
    job = await steering.store(
        workspace.id, data, [failed_result(1), failed_result(2)], format_=UploadFormat.JSON
    )
    steering.ingest.answers["imports"] = accept_child
    corrections = [{"row_number": number, "title": "Lamp"} for number in (1, 2)]
    await post(steering, workspace, f"{job.job_id}/retry", {"corrections": corrections})
    (sent,) = steering.ingest.documents("imports")
    expected = {name: value for name, value in rows[0].items() if name != "Headline"}
    assert sent["rows"][0] == {**expected, "title": "Lamp"}
    assert (sent["rows"][1]["title"], "titel" in sent["rows"][1]) == ("Lamp", False)
    # JSON can't represent them. No field accepts an object, so the row can't lose them silently
    assert (sent["rows"][1]["alt_text"], sent["rows"][1]["price"]) == ({}, {})
    assert sent["lines"] is None


async def test_a_request_by_topic_is_retried_with_the_parameters_of_its_document(
    steering: Steering, workspace: Workspace
) -> None:
    row = submitted_row(account_id=str(workspace.account_id))
    document = {"request_id": "r", "rows": [row], "timezone": "Europe/Berlin", "strict": True}
    job = await steering.store(
        workspace.id, orjson.dumps(document), [failed_result(1)], format_=UploadFormat.REQUEST
    )
    steering.ingest.answers["imports"] = accept_child
    await post(steering, workspace, f"{job.job_id}/retry")
    (sent,) = steering.ingest.documents("imports")
    assert (sent["rows"], sent["parameters"]) == (
        [row],
        {"strict": True, "timezone": "Europe/Berlin"},
    )


async def test_a_key_for_some_accounts_retries_only_rows_of_these(
    steering: Steering, workspace: Workspace
) -> None:
    own = await workspace.add_account()
    key = await workspace.create_limited_key(own)
    steering.ingest.answers["imports"] = accept_child
    mine = await steering.store(workspace.id, build_csv(own), RESULTS)
    assert (await post(steering, workspace, f"{mine.job_id}/retry", key=key)).status_code == 202
    (sent,) = steering.ingest.documents("imports")
    assert sent["account_ids"] == [str(own)]
    others = await steering.store(workspace.id, build_csv(workspace.account_id), RESULTS)
    body = {"corrections": [{"row_number": n, "account_id": str(own)} for n in (2, 3)]}
    answer = await post(steering, workspace, f"{others.job_id}/retry", body, key)
    assert read_error(answer) == (403, "account_not_permitted")


async def test_an_error_of_ingest_is_passed_on(steering: Steering, workspace: Workspace) -> None:
    job = await steering.store(workspace.id, build_csv(workspace.account_id), RESULTS)
    steering.ingest.answers["imports"] = lambda _: refuse(
        429, "too_many_unsettled_rows", "The backlog is full.", limit=5
    )
    answer = await post(steering, workspace, f"{job.job_id}/retry")
    assert read_error(answer) == (429, "too_many_unsettled_rows")
    assert answer.json()["detail"]["limit"] == 5


async def test_a_cancellation_waits_for_the_rows_and_counts_them(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, [created_result(1)], total_rows=3)
    schedule = str(uuid4())

    def cancel(_: dict[str, Any]) -> dict[str, Any]:
        return {
            "canceled_schedules": [{"row_number": 1, "schedule_id": schedule}],
            "withdrawn_pins": [{"row_number": 2, "pin_id": schedule}],
            "left": [{"row_number": 1, "schedule_id": schedule, "reason": "published"}],
        }

    steering.publisher.answers["imports/cancel"] = cancel
    answer = await post(steering, workspace, f"{job.job_id}/cancel?scheduled=true")
    document = answer.json()
    assert (document["processed_rows"], document["unsettled_rows"], document["status"]) == (
        1,
        2,
        "processing",
    )
    assert document["canceled_schedules"] == [{"row_number": 1, "schedule_id": schedule}]
    assert document["withdrawn_pins"] == [{"row_number": 2, "pin_id": schedule}]
    assert document["left"][0]["reason"] == "published"
    (sent,) = steering.publisher.documents("imports/cancel")
    assert sent == {
        "workspace_id": str(workspace.id),
        "job_id": str(job.job_id),
        "accepted_at": NOON.isoformat(),
        "account_ids": None,
        "cancel_schedules": True,
    }
    results = [failed_result(number, error_code="canceled") for number in (2, 3)]
    await steering.fold(rows_settled(job, *results))
    document = (await post(steering, workspace, f"{job.job_id}/cancel?scheduled=true")).json()
    assert (document["canceled_rows"], document["failed_rows"], document["unsettled_rows"]) == (
        2,
        2,
        0,
    )


async def test_an_ended_import_has_nothing_to_cancel_but_its_schedules(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    answer = await post(steering, workspace, f"{job.job_id}/cancel")
    assert (answer.status_code, answer.json()["canceled_rows"]) == (200, 0)
    assert steering.publisher.received == []
    steering.publisher.answers["imports/cancel"] = lambda _: {"canceled_schedules": [], "left": []}
    await post(steering, workspace, f"{job.job_id}/cancel?scheduled=true")
    assert len(steering.publisher.documents("imports/cancel")) == 1


async def test_a_key_for_some_accounts_cancels_only_imports_of_these(
    steering: Steering, workspace: Workspace
) -> None:
    own = await workspace.add_account()
    key = await workspace.create_limited_key(own)
    steering.publisher.answers["imports/cancel"] = lambda _: {"canceled_schedules": [], "left": []}
    for data, status in (
        (build_csv(own), 200),
        (build_csv(workspace.account_id), 403),
        (None, 403),
    ):
        job = await steering.store(workspace.id, data, RESULTS[:2], total_rows=3)
        answer = await post(steering, workspace, f"{job.job_id}/cancel", key=key)
        assert answer.status_code == status
    (sent,) = steering.publisher.documents("imports/cancel")
    assert sent["account_ids"] == [str(own)]


async def test_an_undo_says_what_was_undone_and_what_was_left(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    undo_id, pin = str(uuid4()), str(uuid4())
    steering.publisher.answers["imports/undo"] = lambda document: {
        "undo_id": None if document["dry_run"] else undo_id,
        "undone_at": None if document["dry_run"] else NOON.isoformat(),
        "is_replay": not document["dry_run"],
        "undone": [{"row_number": 1, "pin_id": pin, "schedule_id": None, "action": "deleted"}],
        "left": [{"row_number": 2, "pin_id": pin, "schedule_id": None, "reason": "changed"}],
    }
    dry = await post(steering, workspace, f"{job.job_id}/undo?dry_run=true")
    assert (dry.json()["undo_id"], dry.json()["dry_run"]) == (None, True)
    assert "idempotent-replayed" not in dry.headers
    answer = await post(steering, workspace, f"{job.job_id}/undo")
    document = answer.json()
    assert answer.headers["idempotent-replayed"] == "true"
    assert (document["undo_id"], document["undone_rows"], document["left_rows"]) == (undo_id, 1, 1)
    assert document["undone"][0]["pin_id"] == pin
    assert [sent["dry_run"] for sent in steering.publisher.documents("imports/undo")] == [
        True,
        False,
    ]


async def test_an_undo_names_the_accounts_of_the_key(
    steering: Steering, workspace: Workspace
) -> None:
    key = await workspace.create_limited_key(workspace.account_id)
    job = await steering.store(workspace.id, None, RESULTS)
    steering.publisher.answers["imports/undo"] = lambda _: {"undone": [], "left": []}
    assert (await post(steering, workspace, f"{job.job_id}/undo", key=key)).status_code == 200
    (sent,) = steering.publisher.documents("imports/undo")
    assert sent["account_ids"] == [str(workspace.account_id)]


async def test_a_running_import_must_be_canceled_before_its_undo(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS, total_rows=4)
    answer = await post(steering, workspace, f"{job.job_id}/undo")
    assert read_error(answer) == (409, "job_not_finished")
    detail = answer.json()["detail"]
    assert detail["cancel"] == f"/v1/pins/imports/{job.job_id}/cancel"
    assert detail["message"] == (
        "This import still has 1 row without a result. Wait until it has ended, or cancel it first."
    )


async def read_row(steering: Steering, workspace: Workspace, job_id: UUID, number: object) -> Any:
    path = f"/v1/pins/imports/{job_id}/rows/{number}"
    return await steering.http.get(path, headers=workspace.headers)


async def test_the_timeline_of_a_row_has_each_time(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    steering.publisher.answers["imports/row"] = lambda _: {
        "outcome": None,
        "pin": {
            "state": "published",
            "schedule_id": str(uuid4()),
            "created_at": "2026-11-23T12:00:00.000001Z",
            "published_at": "2026-11-23T13:00:00Z",
        },
        "canceled_at": None,
    }
    timeline = (await read_row(steering, workspace, job.job_id, 1)).json()
    names = [event["event"] for event in timeline["events"]]
    assert sorted(names) == ["accepted", "published", "scheduled", "settled"]
    assert all(event["at"].endswith("Z") for event in timeline["events"])
    times = [datetime.fromisoformat(event["at"]) for event in timeline["events"]]
    assert times == sorted(times)
    assert (timeline["status"], timeline["state"], timeline["line"], timeline["waiting"]) == (
        "created",
        "published",
        2,
        None,
    )
    (sent,) = steering.publisher.documents("imports/row")
    assert (sent["row_number"], sent["job_id"]) == (1, str(job.job_id))


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ({"outcome": None, "pin": None}, "until the publisher reaches it"),
        ({"outcome": {"status": "failed"}, "pin": None}, "on the way to this job"),
        (None, "does not answer"),
    ],
)
async def test_the_timeline_says_why_a_row_waits(
    steering: Steering, workspace: Workspace, stored: dict[str, Any] | None, reason: str
) -> None:
    job = await steering.store(workspace.id, None, [], total_rows=2)
    steering.publisher.answers["imports/row"] = lambda _: (
        refuse(503, "database_unavailable", "Down.") if stored is None else stored
    )
    timeline = (await read_row(steering, workspace, job.job_id, 2)).json()
    assert (timeline["status"], [event["event"] for event in timeline["events"]]) == (
        None,
        ["accepted"],
    )
    assert reason in timeline["waiting"]


def _answer(answer: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    return answer


async def test_the_timeline_hides_the_pin_of_an_account_that_the_key_does_not_permit(
    steering: Steering, workspace: Workspace
) -> None:
    own = await workspace.add_account()
    key = await workspace.create_limited_key(own)
    job = await steering.store(workspace.id, None, RESULTS)
    pin = {"state": "scheduled", "run_at": "2090-01-01T00:00:00+00:00", "pin_id": str(uuid4())}
    path = f"/v1/pins/imports/{job.job_id}/rows/1"
    for account, is_shown in ((own, True), (workspace.account_id, False)):
        shown = {**pin, "account_id": str(account), "created_at": "2026-11-23T12:00:00+00:00"}
        answer = {"outcome": None, "pin": shown, "canceled_at": None}
        steering.publisher.answers["imports/row"] = partial(_answer, answer)
        timeline = (await steering.http.get(path, headers={"X-API-Key": key})).json()
        assert (timeline["state"] is not None, timeline["run_at"] is not None) == (is_shown,) * 2
        names = {event["event"] for event in timeline["events"]}
        assert ("stored" in names) is is_shown


@pytest.mark.parametrize("number", [0, 4, -1, "x", "²", 10**30, "9" * 5000])
async def test_a_row_that_the_import_does_not_have_is_not_found(
    steering: Steering, workspace: Workspace, number: object
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    answer = await read_row(steering, workspace, job.job_id, number)
    assert answer.status_code == HTTPStatus.NOT_FOUND


async def test_a_missing_row_is_answered_with_the_rows_that_exist(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    detail = (await read_row(steering, workspace, job.job_id, 4)).json()["detail"]
    assert detail["code"] == "not_found"
    assert detail["message"] == "This import has no such row. Its rows are 1 to 3."


@pytest.mark.parametrize("command", COMMANDS)
async def test_invariant_10_imports_of_another_workspace_do_not_exist(
    steering: Steering, workspace: Workspace, command: str
) -> None:
    other = await make_workspace(steering.database)
    job = await steering.store(other.id, build_csv(other.account_id), RESULTS)
    answer = await post(steering, workspace, f"{job.job_id}/{command}")
    assert read_error(answer) == (404, "not_found")
    assert (await read_row(steering, workspace, job.job_id, 1)).status_code == 404
    assert steering.publisher.received == steering.ingest.received == []


async def test_an_import_shows_its_undo_if_the_request_asks_for_it(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    undo = {
        "undone_at": NOON.isoformat(),
        "undone_rows": 1,
        "removing_rows": 0,
        "left_rows": 0,
    }
    steering.publisher.answers["imports/undos"] = lambda document: {
        "undos": [{"job_id": document["job_ids"][0], **undo}]
    }
    headers = {"X-API-Key": workspace.api_key}

    async def read(path: str) -> Any:
        return (await steering.http.get(path, headers=headers)).json()

    path = JOB.format(job.job_id)
    assert (await read(path))["undo"] is None
    assert (await read(f"{path}?include_undo=true"))["undo"] == undo
    (listed,) = await read("/v1/pins/imports?include_undo=true")
    assert listed["undo"] == undo
    (sent, _) = steering.publisher.documents("imports/undos")
    assert sent == {"workspace_id": str(workspace.id), "job_ids": [str(job.job_id)]}
    steering.publisher.answers["imports/undos"] = lambda _: refuse(503, "service_unavailable", "No")
    assert (await read(f"{path}?include_undo=true"))["undo"] is None
