"""Files and requests of kinds that trip other importers, through the gateway."""

import io
import json
import zipfile
from typing import Any

import httpx
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.patience import get_and_head
from tests.acceptance.rows import rows_for
from tests.support.deployment import wait_for_job

COLUMNS = (
    "account_id",
    "board_id",
    "title",
    "idempotency_key",
    "image_url",
    "link_url",
    "description",
)
HEADER = ",".join(COLUMNS)


def line_for(workspace: NewWorkspace, key: str, **values: str) -> str:
    """Builds the line of a row. Its description is empty."""
    (row,) = rows_for(workspace, 1, prefix=key, description="", **values)
    return ",".join(row[name] for name in COLUMNS)


def upload(client: httpx.Client, data: bytes, **parameters: str) -> httpx.Response:
    return client.post(
        "/v1/pins/imports/csv",
        files={"file": ("pins.csv", data, "text/csv")},
        params=parameters,
    )


def ended(client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    return wait_for_job(client, answer.json()["id"])


def detail(answer: httpx.Response) -> dict[str, Any]:
    """Returns the error of an answer, which must be 422, after checking that it offers help."""
    assert answer.status_code == 422, answer.text
    error: dict[str, Any] = answer.json()["detail"]
    assert error["help"].endswith(f"#{error['code']}")
    return error


def statuses(job: dict[str, Any]) -> list[str]:
    return [result["status"] for result in job["results"]]


def titles(client: httpx.Client) -> set[str]:
    return {pin["title"] for pin in client.get("/v1/pins?limit=200").json()}


def warnings(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {warning["code"]: warning for warning in job["warnings"]}


def test_cells_trailing_empty_are_ignored(client: httpx.Client, workspace: NewWorkspace) -> None:
    lines = [HEADER, *(line_for(workspace, f"e{n}") + ",,," for n in range(3))]
    job = ended(client, upload(client, "\n".join(lines).encode()))
    assert statuses(job) == ["created"] * 3


def test_header_trailing_delimiter_is_a_column_without_content(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    lines = [HEADER + ",", line_for(workspace, "h1"), line_for(workspace, "h2")]
    assert statuses(ended(client, upload(client, "\n".join(lines).encode()))) == ["created"] * 2


@pytest.mark.parametrize(
    "value",
    [
        "2031-03-10 10:00:00+01",
        "2031-03-10 09:00:00 UTC",
        "2031-03-10 10:00:00 +0100",
        "2031-03-10T09:00:00 Z",
    ],
)
def test_dates_of_other_programs_are_scheduled(
    client: httpx.Client, workspace: NewWorkspace, value: str
) -> None:
    job = ended(
        client,
        client.post("/v1/pins/imports/json", json=rows_for(workspace, 1, prefix="d", run_at=value)),
    )
    schedule = client.get(f"/v1/schedules/{job['results'][0]['schedule_id']}").json()
    assert schedule["run_at"] == "2031-03-10T09:00:00Z"
    assert (job["publishing_now"], job["scheduled_for_later"]) == (0, 1)


def test_dates_of_other_programs_with_a_slip_in_the_year_fail(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 1, prefix="year", run_at="0031-03-10T10:00:00Z")
    job = ended(client, client.post("/v1/pins/imports/json", json=rows))
    assert [fault["code"] for fault in job["results"][0]["errors"]] == ["before_2010"]


def test_encoding_cyrillic_is_refused_until_it_is_named(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    text = f"{HEADER}\n{line_for(workspace, 'cy', title='Маленькая лампа')}\n"
    data = text.encode("windows-1251")
    error = detail(upload(client, data))
    assert error["code"] == "invalid_encoding"
    assert error["line"] == 2
    job = ended(client, upload(client, data, encoding="windows-1251"))
    assert statuses(job) == ["created"]
    assert titles(client) == {"Маленькая лампа"}


def test_encoding_one_cut_byte_is_refused_with_its_line_and_nothing_is_published(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    lines = [HEADER, line_for(workspace, "m1", title="Café äöü"), line_for(workspace, "m2") + "BÃ"]
    data = "\n".join(lines).encode()[:-1] + b"\n"
    error = detail(upload(client, data))
    assert (error["code"], error["line"]) == ("invalid_encoding", 3)
    assert titles(client) == set()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/pins", "/docs", "/openapi.json"])
def test_head_is_answered_as_get_without_a_body(client: httpx.Client, path: str) -> None:
    got, head = get_and_head(client, path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.status_code == 200
    assert head.headers["content-type"] == got.headers["content-type"]


def test_header_double_bom_is_dropped(client: httpx.Client, workspace: NewWorkspace) -> None:
    data = b"\xef\xbb\xbf" * 2 + f"{HEADER}\n{line_for(workspace, 'bb')}\n".encode()
    assert statuses(ended(client, upload(client, data))) == ["created"]


def test_json_bom_is_dropped(client: httpx.Client, workspace: NewWorkspace) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(rows_for(workspace, 1, prefix="jb")).encode()
    answer = client.post(
        "/v1/pins/imports/json", content=body, headers={"Content-Type": "application/json"}
    )
    assert statuses(ended(client, answer)) == ["created"]


def test_json_unknown_field_that_is_nearly_known_fails_its_row_and_an_alias_is_taken(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    slip, alias, other = rows_for(workspace, 3, prefix="ju", link_url=None)
    slip |= {"run_At": "2031-01-01T00:00:00Z"}
    alias |= {"link": "https://shop.example/a"}
    other |= {"price": 5}
    job = ended(client, client.post("/v1/pins/imports/json", json=[slip, alias, other]))
    assert statuses(job) == ["failed", "created", "created"]
    assert job["results"][0]["error_code"] == "unknown_field"
    assert "Did you mean run_at?" in job["results"][0]["error_message"]
    assert warnings(job)["field_aliases"]["row_numbers"] == [2]
    assert warnings(job)["unknown_fields"]["row_numbers"] == [3]
    pin = client.get(f"/v1/pins/{job['results'][1]['pin_id']}").json()
    assert pin["link_url"] == "https://shop.example/a"


def test_not_a_csv_is_named_for_what_it_is(client: httpx.Client, workspace: NewWorkspace) -> None:
    workbook = io.BytesIO()
    with zipfile.ZipFile(workbook, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    error = detail(upload(client, workbook.getvalue()))
    assert "Excel" in error["message"]
    text = f"{HEADER}\n{line_for(workspace, 'u16')}\n"
    error = detail(upload(client, text.encode("utf-16-le")))
    assert error["code"] == "invalid_encoding"
    assert "UTF-16" in error["message"]


def test_scientific_keys_are_a_warning_of_the_job(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    lines = [HEADER]
    for number in range(3):
        line = line_for(workspace, "s", title=f"Product {number}")
        lines.append(line.replace("s-1", "4.00638E+12"))
    job = ended(client, upload(client, "\n".join(lines).encode()))
    assert statuses(job) == ["created", "existing", "existing"]
    assert warnings(job)["duplicate_keys"]["row_numbers"] == [1, 2, 3]
    assert job["results"][1]["differing_fields"] == [
        {"field": "title", "stored": "Product 0", "sent": "Product 1"}
    ]
    assert job["results"][1]["existing_state"] == "published"


def test_sep_line_names_the_delimiter(client: httpx.Client, workspace: NewWorkspace) -> None:
    lines = ["sep=;", *(line.replace(",", ";") for line in (HEADER, line_for(workspace, "sep")))]
    job = ended(client, upload(client, "\r\n".join(lines).encode()))
    assert [(result["status"], result["line"]) for result in job["results"]] == [("created", 3)]


def test_two_files_in_one_upload_are_refused(client: httpx.Client, workspace: NewWorkspace) -> None:
    data = f"{HEADER}\n{line_for(workspace, 'tf')}\n".encode()
    files = [("file", ("a.csv", data, "text/csv")), ("file", ("b.csv", data, "text/csv"))]
    assert detail(client.post("/v1/pins/imports/csv", files=files))
    assert titles(client) == set()


def test_url_white_space_is_trimmed_around_and_refused_inside(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    lines = [
        HEADER,
        line_for(workspace, "un1", image_url='"https://cdn.shop.example/a\n.jpg"'),
        line_for(workspace, "un2", image_url="https://cdn.shop.example/a.jpg "),
        line_for(workspace, "un3", image_url=" https://cdn.shop.example/a.jpg"),
    ]
    job = ended(client, upload(client, "\n".join(lines).encode()))
    assert statuses(job) == ["failed", "created", "created"]
    assert [result["line"] for result in job["results"]] == [2, 4, 5]
    assert job["results"][0]["errors"][0]["code"] == "white_space"
    pin = client.get(f"/v1/pins/{job['results'][1]['pin_id']}").json()
    assert pin["image_url"] == "https://cdn.shop.example/a.jpg"


def test_pinterests_own_template_is_read_with_names_and_a_time_zone(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    """The template lacks account and key: the parameter gives one, a column is added."""
    account = workspace.accounts[0]
    name = next(
        item["display_name"]
        for item in client.get("/v1/pinterest/accounts").json()
        if item["id"] == str(account.id)
    )
    board = client.get(f"/v1/pinterest/boards?account_id={account.id}").json()[0]
    data = (
        "Title,Media URL,Pinterest board,Thumbnail,Description,Link,Publish date,Keywords,"
        "Idempotency Key\n"
        f"Lamp,https://cdn.example/a.jpg,{board['name']},,Warm,https://shop.example/a,"
        '2031-03-10T10:00:00,"lamps, light",t-1\n'
    ).encode()
    job = ended(client, upload(client, data, account=name, timezone="Europe/Berlin"))
    assert statuses(job) == ["created"], job["results"]
    schedule = client.get(f"/v1/schedules/{job['results'][0]['schedule_id']}").json()
    assert schedule["run_at"] == "2031-03-10T09:00:00Z"
    assert "column_aliases" in warnings(job)


def test_a_slip_in_a_header_refuses_the_file(client: httpx.Client, workspace: NewWorkspace) -> None:
    data = f"{HEADER},run_ta\n{line_for(workspace, 'slip')},2031-01-01T00:00:00Z\n".encode()
    error = detail(upload(client, data))
    assert error["code"] == "unknown_columns"
    assert "Did you mean run_at?" in error["message"] or "did you mean run_at?" in error["message"]


def test_future_times_in_a_column_of_another_name_refuse_the_file(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    line = line_for(workspace, "dated")
    data = f"{HEADER},Date\n{line},2031-12-24T09:00:00Z\n".encode()
    for parameters in ({}, {"dry_run": "true"}, {"strict": "true"}):
        error = detail(upload(client, data, **parameters))
        assert error["code"] == "unknown_columns"
        assert error["columns"] == [{"column": "Date", "suggestion": "run_at"}]
    named = f"{HEADER},Date,run_at\n{line},2031-12-24T09:00:00Z,\n".encode()
    job = ended(client, upload(client, named))
    assert (statuses(job), job["publishing_now"]) == (["created"], 1)


def test_times_that_have_passed_are_counted_or_fail(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 2, prefix="past", run_at="2025-01-01T00:00:00Z")
    answer = client.post("/v1/pins/imports/json", json=rows, params={"past_run_at": "fail"})
    job = ended(client, answer)
    assert {result["error_code"] for result in job["results"]} == {"run_at_in_past"}
    job = ended(client, client.post("/v1/pins/imports/json", json=rows))
    assert statuses(job) == ["created"] * 2
    assert warnings(job)["past_run_at"]["row_numbers"] == [1, 2]
    assert (job["publishing_now"], job["scheduled_for_later"]) == (2, 0)


def test_a_row_whose_pin_was_deleted_is_said_to_be_published_no_more(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    rows = rows_for(workspace, 2, prefix="gone")
    first = ended(client, client.post("/v1/pins/imports/json", json=rows))
    client.delete(f"/v1/pins/{first['results'][0]['pin_id']}").raise_for_status()
    second = ended(client, client.post("/v1/pins/imports/json", json=rows))
    assert [result["existing_state"] for result in second["results"]] == ["deleted", "published"]
    assert warnings(second)["existing_not_published"]["row_numbers"] == [1]


def test_unknown_parameters_are_refused(client: httpx.Client, workspace: NewWorkspace) -> None:
    rows = rows_for(workspace, 1, prefix="p")
    answer = client.post("/v1/pins/imports/json", json=rows, params={"time_zone": "Europe/Berlin"})
    assert detail(answer)["code"] == "unknown_parameter"
    assert detail(client.get("/v1/pins?stauts=failed"))["code"] == "unknown_parameter"
    assert titles(client) == set()
