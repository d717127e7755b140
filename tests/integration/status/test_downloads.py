"""results.csv and failed.csv: the upload as it was, with the results, and safe to upload again."""

import csv
import io
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
import pytest

from shared.contract.events import UploadFormat, UploadParameters
from shared.spreadsheets.table import read_csv
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.status.steering import Steering
from tests.support.factories import created_result, failed_result, submitted_row

PIN = UUID("3f0c1b52-8f0e-5c0b-9d2a-7d1c9f6a4e10")
CSV = (
    "Title;Board;account_id;idempotency_key;Preis\r\n"
    "Lampe;1;{account};k1;9,90\r\n"
    "=1+1;1;{account};k2;'5\r\n"
    "Stuhl;1;{account};k3;\r\n"
)
RESULTS = [
    created_result(1, pin_id=PIN, line=2),
    failed_result(2, line=3),
    failed_result(3, line=4, error_code="board_not_found", error_message="no board"),
]


def build_csv(workspace: Workspace, encoding: str = "cp1252") -> bytes:
    return CSV.format(account=workspace.account_id).replace("Stuhl", "Stühle").encode(encoding)


async def download(
    steering: Steering, workspace: Workspace, job_id: UUID, name: str, key: str | None = None
) -> Any:
    headers = {"X-API-Key": key or workspace.api_key}
    return await steering.http.get(f"/v1/pins/imports/{job_id}/{name}", headers=headers)


async def test_results_csv_is_the_upload_with_the_results(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(
        workspace.id, build_csv(workspace), RESULTS, source_filename="C:\\Herbst Lampen.csv"
    )
    answer = await download(steering, workspace, job.job_id, "results.csv")
    account = workspace.account_id
    assert answer.content.decode() == (
        "\ufeffTitle;Board;account_id;idempotency_key;Preis;line;status;pin_id;schedule_id;"
        "error_code;error_message\r\n"
        f"Lampe;1;{account};k1;9,90;2;created;{PIN};;;\r\n"
        f"'=1+1;1;{account};k2;''5;3;failed;;;validation_error;title: is required\r\n"
        f"Stühle;1;{account};k3;;4;failed;;;board_not_found;no board\r\n"
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="Herbst_Lampen-results.csv"; '
        "filename*=UTF-8''Herbst%20Lampen-results.csv"
    )


async def test_failed_csv_read_again_gives_exactly_the_failed_rows(
    steering: Steering, workspace: Workspace
) -> None:
    upload = build_csv(workspace)
    job = await steering.store(workspace.id, upload, RESULTS)
    answer = await download(steering, workspace, job.job_id, "failed.csv")
    read, original = read_csv(answer.content), read_csv(upload)
    assert [row.values for row in read.rows] == [row.values for row in original.rows[1:]]
    assert [warning.code for warning in read.warnings] == ["column_aliases", "unknown_columns"]


async def test_a_file_with_results_can_be_uploaded_and_downloaded_again(
    steering: Steering, workspace: Workspace
) -> None:
    first = await steering.store(workspace.id, build_csv(workspace), RESULTS)
    failed = (await download(steering, workspace, first.job_id, "failed.csv")).content
    results = [created_result(1, pin_id=PIN, line=2), failed_result(2, line=3)]
    second = await steering.store(workspace.id, failed, results)
    text = (await download(steering, workspace, second.job_id, "results.csv")).content.decode()
    header, row, *_ = csv.reader(io.StringIO(text, newline=""), delimiter=";")
    assert header.count("line") == 1
    assert (row[0], row[4], row[6]) == ("'=1+1", "''5", "created")


async def test_a_running_import_has_empty_results_and_no_failed_rows_yet(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, build_csv(workspace), RESULTS[1:2], total_rows=3)
    answer = await download(steering, workspace, job.job_id, "results.csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")), delimiter=";"))
    assert [row["status"] for row in rows] == ["", "failed", ""]
    assert [row["line"] for row in rows] == ["2", "3", "4"]
    answer = await download(steering, workspace, job.job_id, "failed.csv")
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"], detail["unsettled_rows"]) == (
        409,
        "job_not_finished",
        2,
    )


async def test_an_import_of_json_becomes_a_file_with_its_fields_as_columns(
    steering: Steering, workspace: Workspace
) -> None:
    rows = [
        submitted_row(account_id=str(workspace.account_id), related_terms=["a", "b"], price=5),
        {"Headline": "@home", "account_id": str(workspace.account_id), "broken": "\ud800"},
    ]
    data = (
        orjson.dumps(rows[0]),
        b'{"Headline":"@home","account_id":"%b","broken":"\\ud800"}'
        % (str(workspace.account_id).encode()),
    )
    job = await steering.store(
        workspace.id,
        b"[%b]" % b",".join(data),
        [created_result(1), failed_result(2)],
        format_=UploadFormat.JSON,
    )
    answer = await download(steering, workspace, job.job_id, "results.csv")
    first, second = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""))
    assert (first["title"], first["related_terms"], first["price"]) == ("Autumn lamps", "a, b", "5")
    assert (second["title"], second["broken"], second["line"]) == ("'@home", "\\ud800", "")
    assert "Headline" not in second


async def test_a_request_by_topic_becomes_a_file_too(
    steering: Steering, workspace: Workspace
) -> None:
    row = submitted_row(account_id=str(workspace.account_id))
    document = orjson.dumps({"request_id": "r", "workspace_id": str(workspace.id), "rows": [row]})
    job = await steering.store(
        workspace.id, document, [failed_result(1)], format_=UploadFormat.REQUEST
    )
    answer = await download(steering, workspace, job.job_id, "failed.csv")
    (read,) = read_csv(answer.content).rows
    assert read.values == row


async def test_the_parameters_of_the_import_decide_how_its_file_is_read(
    steering: Steering, workspace: Workspace
) -> None:
    upload = "title,board_id,idempotency_key\nЛампа,1,k\n".encode("cp1251")
    parameters = UploadParameters(account="My shop", encoding="windows-1251")
    job = await steering.store(workspace.id, upload, [failed_result(1)], parameters=parameters)
    answer = await download(steering, workspace, job.job_id, "failed.csv")
    assert "Лампа" in answer.content.decode()


async def test_an_upload_that_is_not_stored_is_410(
    steering: Steering, workspace: Workspace
) -> None:
    now = datetime.now(UTC)
    old, recent = [
        await steering.store(workspace.id, None, RESULTS, accepted_at=now - age)
        for age in (timedelta(days=31), timedelta(days=1))
    ]
    for job, reason in ((old, "uploads are kept for 30 days"), (recent, "was not stored")):
        answer = await download(steering, workspace, job.job_id, "results.csv")
        detail = answer.json()["detail"]
        assert (answer.status_code, detail["code"]) == (HTTPStatus.GONE, "upload_expired")
        assert reason in detail["message"]


async def test_an_upload_that_may_still_be_folded_is_503(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS, accepted_at=datetime.now(UTC))
    answer = await download(steering, workspace, job.job_id, "results.csv")
    assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "status_behind")


@pytest.mark.parametrize("name", ["results.csv", "failed.csv"])
async def test_invariant_10_the_files_of_another_workspace_do_not_exist(
    steering: Steering, workspace: Workspace, name: str
) -> None:
    other = await make_workspace(steering.database)
    job = await steering.store(other.id, build_csv(other), RESULTS)
    answer = await download(steering, workspace, job.job_id, name)
    assert answer.status_code == HTTPStatus.NOT_FOUND


async def test_a_key_for_some_accounts_gets_no_rows_of_others(
    steering: Steering, workspace: Workspace
) -> None:
    own, other = await workspace.add_account(), workspace.account_id
    key = await workspace.create_limited_key(own)
    header = "title,board_id,account_id,idempotency_key\n"
    for accounts, status in (([own, own], 200), ([own, other], 403), ([own, ""], 403)):
        rows = "".join(f"t,1,{account},k\n" for account in accounts)
        job = await steering.store(workspace.id, (header + rows).encode(), RESULTS[:2])
        answer = await download(steering, workspace, job.job_id, "results.csv", key)
        assert answer.status_code == status
        if status == HTTPStatus.FORBIDDEN:
            assert answer.json()["detail"]["code"] == "account_not_permitted"


async def test_head_answers_as_get_without_the_file(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, build_csv(workspace), RESULTS)
    path = f"/v1/pins/imports/{job.job_id}/results.csv"
    answer = await steering.http.head(path, headers=workspace.headers)
    assert (answer.status_code, answer.content) == (200, b"")
