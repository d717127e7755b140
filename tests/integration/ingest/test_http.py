"""Imports over HTTP are accepted completely and durably, or refused completely with a code."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from shared.contract.events import ImportAccepted, RecordKind, RowAccepted, RowsSettled
from shared.contract.topics import TopicName
from tests.integration.conftest import Workspace
from tests.support.events import parse_event
from tests.support.factories import submitted_row
from tests.support.import_batches import select_values
from tests.support.kafka import read_records
from tests.support.services import running_app

CSV_HEADER = "account_id,board_id,title,image_url,idempotency_key"
MEBIBYTE = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ingest(
    kafka: str, topic_prefix: str, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    settings = IngestSettings(
        kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix, database_url=database_url
    )
    async with running_app(create_app(settings)) as client:
        yield client


class Topics:
    def __init__(self, kafka: str, prefix: str) -> None:
        self._kafka = kafka
        self._prefix = prefix

    async def read_job(self, job_id: UUID, kind: RecordKind) -> list[bytes]:
        records = await read_records(self._kafka, self._prefix, TopicName.IMPORTS)
        return select_values(
            (record.value for record in records if record.key == str(job_id).encode()), kind
        )

    async def count(self) -> int:
        return len(await read_records(self._kafka, self._prefix, TopicName.IMPORTS))


@pytest.fixture
def topics(kafka: str, topic_prefix: str) -> Topics:
    return Topics(kafka, topic_prefix)


async def post_json(
    ingest: httpx.AsyncClient, workspace: Workspace, body: Any, query: str = "", **headers: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    merged = {**workspace.headers, "Content-Type": "application/json", **headers}
    return await ingest.post(f"/v1/pins/imports/json{query}", content=content, headers=merged)


async def post_csv(
    ingest: httpx.AsyncClient,
    workspace: Workspace,
    data: bytes,
    field: str = "file",
    name: str = "a.csv",
) -> httpx.Response:
    return await ingest.post(
        "/v1/pins/imports/csv", files={field: (name, data, "text/csv")}, headers=workspace.headers
    )


async def test_invariant_1_a_202_means_that_the_whole_import_is_in_kafka(
    ingest: httpx.AsyncClient, workspace: Workspace, topics: Topics
) -> None:
    rows = [submitted_row(title=f"Row {number}") for number in range(1, 501)]
    rows[6] = {**rows[6], "title": ""}
    answer = await post_json(ingest, workspace, rows)
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (
        202,
        f"/v1/pins/imports/{job['id']}",
    )
    assert (job["status"], job["total_rows"], job["processed_rows"], job["results"]) == (
        "queued",
        500,
        0,
        [],
    )
    (accepted,) = await topics.read_job(job["id"], RecordKind.IMPORT)
    event = parse_event(ImportAccepted, accepted)
    assert (event.total_rows, event.workspace_id) == (500, workspace.id)
    numbers = [
        parse_event(RowAccepted, value).row_number
        for value in await topics.read_job(job["id"], RecordKind.ROW)
    ]
    assert numbers == [number for number in range(1, 501) if number != 7]
    (outcome,) = await topics.read_job(job["id"], RecordKind.RESULTS)
    assert [result.row_number for result in parse_event(RowsSettled, outcome).results] == [7]


async def test_an_import_of_5_mebibytes_is_accepted(
    ingest: httpx.AsyncClient, workspace: Workspace, topics: Topics
) -> None:
    rows = [
        submitted_row(
            description="d" * 800,
            alt_text="\u20ac" * 500,
            link_url=f"https://shop.example/{'x' * 2000}",
        )
        for _ in range(500)
    ]
    body = json.dumps(rows, ensure_ascii=False).encode()
    padding = b" " * (5 * MEBIBYTE - len(body))
    answer = await post_json(ingest, workspace, body + padding)
    assert answer.status_code == 202
    assert len(await topics.read_job(answer.json()["id"], RecordKind.ROW)) == 500


async def test_a_csv_is_accepted_with_its_filename_and_warnings(
    ingest: httpx.AsyncClient, workspace: Workspace, topics: Topics
) -> None:
    data = f"{CSV_HEADER}\n{workspace.account_id},b,Lämpe,https://a.example/x.png,k\n".encode(
        "cp1252"
    )
    answer = await post_csv(ingest, workspace, data, name="Frühling.csv")
    job = answer.json()
    assert (answer.status_code, job["source_type"], job["source_filename"]) == (
        202,
        "csv",
        "Frühling.csv",
    )
    assert [warning["code"] for warning in job["warnings"]] == ["guessed_encoding"]
    (value,) = await topics.read_job(job["id"], RecordKind.ROW)
    assert parse_event(RowAccepted, value).row.title == "Lämpe"


REFUSED_JSON: list[tuple[Any, str, dict[str, str], int, str]] = [
    (b"", "", {}, 422, "invalid_json"),
    (b"[{]", "", {}, 422, "invalid_json"),
    (b"[NaN]", "", {}, 422, "invalid_json"),
    ({}, "", {}, 422, "invalid_payload"),
    ([1], "", {}, 422, "invalid_payload"),
    ([], "", {}, 422, "empty_import"),
    ([{}] * 501, "", {}, 422, "too_many_rows"),
    ([{}], "?strict=perhaps", {}, 422, "invalid_parameter"),
    ([{}], "", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    (b" " * (5 * MEBIBYTE + 1), "", {}, 413, "payload_too_large"),
    ([{}], "", {"X-API-Key": "pf_wrong"}, 401, "unauthorized"),
]


@pytest.mark.parametrize(
    ("body", "query", "headers", "status", "code"), REFUSED_JSON, ids=lambda value: str(value)[:30]
)
async def test_an_invalid_json_request_is_refused_completely(
    ingest: httpx.AsyncClient,
    workspace: Workspace,
    topics: Topics,
    body: Any,
    query: str,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    before = await topics.count()
    answer = await post_json(ingest, workspace, body, query, **headers)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (status, code)
    assert detail["message"]
    assert await topics.count() == before


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"title\nx\n", 422, "missing_columns"),
        (f"{CSV_HEADER},title\n".encode(), 422, "duplicate_columns"),
        (f'{CSV_HEADER}\n"open'.encode(), 422, "invalid_csv"),
        (CSV_HEADER.encode(), 422, "empty_import"),
        (f"{CSV_HEADER}\n".encode() + b"a,b,c,d,e\n" * 501, 422, "too_many_rows"),
        (b"\xef\xbb\xbf\xff", 422, "invalid_encoding"),
        (b"x" * (5 * MEBIBYTE + 1), 413, "payload_too_large"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_an_invalid_csv_is_refused_completely(
    ingest: httpx.AsyncClient,
    workspace: Workspace,
    topics: Topics,
    data: bytes,
    status: int,
    code: str,
) -> None:
    before = await topics.count()
    answer = await post_csv(ingest, workspace, data)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (status, code)
    assert await topics.count() == before


async def test_a_csv_in_another_field_is_a_missing_file(
    ingest: httpx.AsyncClient, workspace: Workspace
) -> None:
    answer = await post_csv(ingest, workspace, b"x", field="upload")
    assert (answer.status_code, answer.json()["detail"]["code"]) == (422, "missing_file")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/csv", b"title\n", 415, "unsupported_media_type"),
        ("multipart/form-data", b"x", 400, "invalid_multipart"),
        ("multipart/form-data; boundary=b", b"--b\r\nno end", 400, "invalid_multipart"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--b--\r\n',
            422,
            "missing_file",
        ),
    ],
)
async def test_an_invalid_upload_is_refused(
    ingest: httpx.AsyncClient,
    workspace: Workspace,
    content_type: str,
    body: bytes,
    status: int,
    code: str,
) -> None:
    headers = {**workspace.headers, "Content-Type": content_type}
    answer = await ingest.post("/v1/pins/imports/csv", content=body, headers=headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (status, code)


async def test_a_body_without_a_length_is_refused_while_reading(
    ingest: httpx.AsyncClient, workspace: Workspace
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * MEBIBYTE:
            sent += MEBIBYTE
            yield b" " * MEBIBYTE

    headers = {**workspace.headers, "Content-Type": "application/json"}
    answer = await ingest.post("/v1/pins/imports/json", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (413, "payload_too_large")


async def test_strict_fails_rows_with_unknown_fields(
    ingest: httpx.AsyncClient, workspace: Workspace, topics: Topics
) -> None:
    answer = await post_json(
        ingest, workspace, [{**submitted_row(), "campaign": "autumn"}], "?strict=true"
    )
    (outcome,) = await topics.read_job(answer.json()["id"], RecordKind.RESULTS)
    result = parse_event(RowsSettled, outcome).results[0]
    assert (result.error_message or "").startswith("campaign: There is no such field.")


async def test_100_concurrent_imports_are_each_complete(
    ingest: httpx.AsyncClient, workspace: Workspace, topics: Topics
) -> None:
    answers = await asyncio.gather(
        *(post_json(ingest, workspace, [submitted_row() for _ in range(20)]) for _ in range(100))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 100
    rows = [
        parse_event(RowAccepted, value)
        for answer in answers[:10]
        for value in await topics.read_job(answer.json()["id"], RecordKind.ROW)
    ]
    assert len(rows) == 200
