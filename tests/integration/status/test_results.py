"""Results page by page, filtered, and in three formats."""

import csv
import io
import json
from http import HTTPStatus
from typing import Any

import pytest

from shared.contract.events import ExistingState, Fault, FieldDifference, RowResult, RowStatus
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.status.steering import Steering
from tests.support.factories import created_result, failed_result

DIFFERENCE = FieldDifference(field="title", stored="Lamp", sent="=Lamps")
RESULTS = [
    created_result(1, idempotency_key="Lamp-1"),
    failed_result(2, idempotency_key="lamp-2", error_message="=title: is required"),
    failed_result(3, error_code="board_not_found", error_message="no board"),
    RowResult(
        row_number=4,
        status=RowStatus.EXISTING,
        payload_matches=False,
        existing_state=ExistingState.PUBLISHED,
        differing_fields=[DIFFERENCE],
    ),
    failed_result(5, idempotency_key="desk"),
]


async def fetch(
    steering: Steering, workspace: Workspace, path: str, headers: dict[str, str] | None = None
) -> Any:
    return await steering.http.get(path, headers={**workspace.headers, **(headers or {})})


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("?status=failed", [2, 3, 5]),
        ("?status=existing", [4]),
        ("?error_code=board_not_found", [3]),
        ("?q=LAMP", [1, 2]),
        ("?q=required&status=failed", [2, 5]),
        ("?q=%25", []),
    ],
)
async def test_results_are_filtered_and_read_page_by_page(
    steering: Steering, workspace: Workspace, query: str, numbers: list[int]
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    path = f"/v1/pins/imports/{job.job_id}/results"
    whole = await fetch(steering, workspace, path + query)
    assert [result["row_number"] for result in whole.json()] == numbers
    assert whole.headers["x-total-count"] == str(len(numbers))
    read: list[int] = []
    address = f"{path}{query}{'&' if query else '?'}limit=2"
    for _ in range(10):
        page = await fetch(steering, workspace, address)
        read += [result["row_number"] for result in page.json()]
        if "link" not in page.headers:
            break
        address = page.headers["link"].partition(">")[0].lstrip("<")
    assert read == numbers


async def test_results_are_the_same_as_those_of_the_job(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    path = f"/v1/pins/imports/{job.job_id}"
    whole = (await fetch(steering, workspace, path)).json()
    assert (await fetch(steering, workspace, f"{path}/results")).json() == whole["results"]
    assert whole["error_counts"] == {"validation_error": 2, "board_not_found": 1}
    small = (await fetch(steering, workspace, f"{path}?include_results=false")).json()
    assert small == {**whole, "results": []}
    listed = (await fetch(steering, workspace, "/v1/pins/imports")).json()
    assert [document["error_counts"] for document in listed] == [None]


async def test_results_as_csv_and_as_lines(steering: Steering, workspace: Workspace) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    path = f"/v1/pins/imports/{job.job_id}/results?limit=4"
    answer = await fetch(steering, workspace, path, {"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "link" in answer.headers
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["row_number"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[1]["error_message"] == "'=title: is required"
    assert (rows[3]["payload_matches"], rows[3]["differing_fields"]) == ("false", "title")
    answer = await fetch(steering, workspace, path, {"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["row_number"] for line in answer.text.splitlines()] == [1, 2, 3, 4]


async def test_a_format_that_does_not_exist_is_406(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    path = f"/v1/pins/imports/{job.job_id}/results"
    answer = await fetch(steering, workspace, path, {"Accept": "application/xml"})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("query", ["?cursor=abc", "?limit=0", "?state=failed", "?status=lost"])
async def test_a_wrong_parameter_is_refused(
    steering: Steering, workspace: Workspace, query: str
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    answer = await fetch(steering, workspace, f"/v1/pins/imports/{job.job_id}/results{query}")
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY


async def test_an_id_in_digits_of_another_alphabet_has_a_next_page(
    steering: Steering, workspace: Workspace
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    job_id = str(job.job_id).replace("0", "\N{FULLWIDTH DIGIT ZERO}")
    page = await fetch(steering, workspace, f"/v1/pins/imports/{job_id}/results?limit=1")
    following = await fetch(steering, workspace, page.headers["link"].partition(">")[0].lstrip("<"))
    assert [result["row_number"] for result in following.json()] == [2]


async def test_the_cursor_of_another_import_is_refused(
    steering: Steering, workspace: Workspace
) -> None:
    first, second = [await steering.store(workspace.id, None, RESULTS) for _ in range(2)]
    page = await fetch(steering, workspace, f"/v1/pins/imports/{first.job_id}/results?limit=1")
    address = page.headers["link"].partition(">")[0].lstrip("<")
    answer = await fetch(
        steering, workspace, address.replace(str(first.job_id), str(second.job_id))
    )
    assert answer.json()["detail"]["code"] == "invalid_parameter"


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_invariant_10_a_key_for_some_accounts_sees_no_values_of_failed_rows(
    steering: Steering, workspace: Workspace, accept: str
) -> None:
    fault = Fault(code="string_too_long", field="title", message="is too long", value="Secret")
    job = await steering.store(workspace.id, None, [failed_result(1, errors=[fault])])
    key = await workspace.create_limited_key(workspace.account_id)
    path = f"/v1/pins/imports/{job.job_id}/results"
    for headers, value in ((workspace.headers, "Secret"), ({"X-API-Key": key}, None)):
        answer = await steering.http.get(path, headers={**headers, "Accept": accept})
        (error,) = json.loads(answer.text.strip().strip("[]"))["errors"]
        assert (error["message"], error["value"]) == ("is too long", value)


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_invariant_10_a_key_for_some_accounts_sees_no_values_of_differing_fields(
    steering: Steering, workspace: Workspace, accept: str
) -> None:
    job = await steering.store(workspace.id, None, RESULTS)
    key = await workspace.create_limited_key(workspace.account_id)
    answer = await steering.http.get(
        f"/v1/pins/imports/{job.job_id}/results?status=existing",
        headers={"X-API-Key": key, "Accept": accept},
    )
    document = json.loads(answer.text.strip().strip("[]"))
    assert document["differing_fields"] == [{"field": "title", "stored": None, "sent": None}]


async def test_invariant_10_the_results_of_another_workspace_do_not_exist(
    steering: Steering, workspace: Workspace
) -> None:
    other = await make_workspace(steering.database)
    job = await steering.store(other.id, None, RESULTS)
    answer = await fetch(steering, workspace, f"/v1/pins/imports/{job.job_id}/results")
    assert answer.status_code == HTTPStatus.NOT_FOUND
