"""Dry runs: ingest reads the import, asks the publisher over HTTP, and writes nothing.

The publisher is a small HTTP server that answers as a test wants. test_checked_imports.py has the
real one.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import func, select

from deploy.administration import OperatorRepository, create_key
from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from services.ingest.tables import requests
from shared.access.keys import Scope
from shared.contract.events import ExistingState, FieldDifference, RowResult, RowStatus
from shared.contract.topics import TopicName
from shared.contract.wire import encode
from shared.http.row_results import RowResultResponse
from shared.postgres.database import Database
from shared.runtime import metrics
from tests.integration.conftest import Workspace, make_workspace
from tests.support.factories import submitted_row
from tests.support.kafka import read_records
from tests.support.receivers import ReceivedRequest, Receiver, Reply, receiving
from tests.support.services import running_app

TOKEN = "a-token-of-the-installation"
PIN = uuid4()


def answer(*results: RowResult) -> Reply:
    return Reply(200, body=encode({"results": list(results)}))


def publish_all(request: ReceivedRequest) -> Reply:
    return answer(
        *(
            RowResult(row_number=row["row_number"], status=RowStatus.CREATED, pin_id=PIN)
            for row in request.document["rows"]
        )
    )


@pytest.fixture(scope="module")
def publisher_server() -> Iterator[Receiver]:
    with receiving(publish_all) as receiver:
        yield receiver


@pytest.fixture
def publisher(publisher_server: Receiver) -> Receiver:
    publisher_server.answer = publish_all
    publisher_server.requests.clear()
    return publisher_server


@pytest.fixture(scope="module")
def settings(
    kafka: str, topic_prefix: str, database_url: str, publisher_server: Receiver
) -> IngestSettings:
    return IngestSettings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        database_url=SecretStr(database_url),
        publisher_url=f"http://127.0.0.1:{publisher_server.port}",
        internal_token=SecretStr(TOKEN),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ingest(settings: IngestSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with running_app(create_app(settings)) as client:
        yield client


async def check(
    ingest: httpx.AsyncClient, workspace: Workspace, rows: Any, query: str = "", **headers: str
) -> httpx.Response:
    return await ingest.post(
        f"/v1/pins/imports/json?dry_run=true{query}",
        content=json.dumps(rows).encode(),
        headers={**workspace.headers, "Content-Type": "application/json", **headers},
    )


async def test_valid_and_failed_rows_are_answered_in_row_order_with_a_jobs_fields(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    rows = [{}, submitted_row(), submitted_row(run_at="2031-01-01T00:00:00Z"), {}]
    response = await check(ingest, workspace, rows)
    document = response.json()
    assert response.status_code == 200
    assert document["dry_run"] is True
    assert document["checked_at"].endswith("Z")
    assert "location" not in response.headers
    assert {name: document[name] for name in document if name.endswith("_rows")} == {
        "total_rows": 4,
        "created_rows": 2,
        "existing_rows": 0,
        "failed_rows": 2,
    }
    assert (document["publishing_now"], document["scheduled_for_later"]) == (1, 1)
    assert [(row["row_number"], row["status"]) for row in document["results"]] == [
        (1, "failed"),
        (2, "created"),
        (3, "created"),
        (4, "failed"),
    ]
    assert all(set(row) == set(RowResultResponse.model_fields) for row in document["results"])
    assert document["results"][0]["errors"]
    (request,) = publisher.requests
    assert request.path == "/internal/imports/check"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert [row["row_number"] for row in request.document["rows"]] == [2, 3]


async def test_a_csv_is_checked_with_its_lines_and_warnings(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    data = (
        "account_id,board_id,title,image_url,idempotency_key\n"
        f"{workspace.account_id},b,Lämpe,https://a.example/x.png,k\n,,,,\n"
    ).encode("cp1252")
    response = await ingest.post(
        "/v1/pins/imports/csv?dry_run=true&on_existing=update",
        files={"file": ("lamps.csv", data, "text/csv")},
        headers=workspace.headers,
    )
    document = response.json()
    assert (document["source_type"], document["source_filename"]) == ("csv", "lamps.csv")
    assert "guessed_encoding" in {warning["code"] for warning in document["warnings"]}
    (row,) = publisher.requests[0].document["rows"]
    assert (row["line"], row["on_existing"]) == (2, "update")


async def test_a_csv_whose_times_would_be_ignored_is_refused_in_a_check_too(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    data = (
        "account_id,board_id,title,image_url,idempotency_key,Date\n"
        f"{workspace.account_id},b,Lamp,https://a.example/x.png,k,24.12.2031 09:00\n"
    ).encode()
    for query in ("", "?dry_run=true", "?strict=true"):
        response = await ingest.post(
            f"/v1/pins/imports/csv{query}",
            files={"file": ("lamps.csv", data, "text/csv")},
            headers=workspace.headers,
        )
        assert response.status_code == 422
        detail = response.json()["detail"]
        assert detail["code"] == "unknown_columns"
        assert detail["columns"] == [{"column": "Date", "suggestion": "run_at"}]
    assert publisher.requests == []


async def test_rows_for_which_nothing_would_be_published_are_a_warning(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    publisher.answer = lambda _: answer(
        RowResult(
            row_number=1,
            status=RowStatus.EXISTING,
            pin_id=PIN,
            existing_state=ExistingState.DELETED,
        )
    )
    document = (await check(ingest, workspace, [submitted_row()])).json()
    assert document["existing_rows"] == 1
    (warning,) = document["warnings"]
    assert (warning["code"], warning["row_numbers"]) == ("existing_not_published", [1])


async def test_invariant_10_a_limited_key_sees_no_values_of_the_pin_that_has_a_rows_key(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver, database: Database
) -> None:
    difference = FieldDifference(field="title", stored="Secret", sent="Lamp")
    publisher.answer = lambda _: answer(
        RowResult(
            row_number=1,
            status=RowStatus.EXISTING,
            pin_id=PIN,
            payload_matches=False,
            differing_fields=[difference],
        )
    )
    rows = [submitted_row(account_id=str(workspace.account_id))]
    seen = (await check(ingest, workspace, rows)).json()["results"][0]["differing_fields"]
    assert seen == [{"field": "title", "stored": "Secret", "sent": "Lamp"}]
    _, plain = await create_key(
        OperatorRepository(database),
        workspace.id,
        name="limited",
        scopes=frozenset({Scope.WRITE}),
        account_ids=[workspace.account_id],
    )
    rows.append(submitted_row(account_id=str(workspace.account_id), title="x" * 101))
    hidden = (await check(ingest, workspace, rows, **{"X-API-Key": plain})).json()["results"]
    assert hidden[0]["differing_fields"] == [{"field": "title", "stored": None, "sent": None}]
    assert hidden[1]["errors"][0]["value"] == "x" * 101, "the caller has sent it"


async def test_a_dry_run_writes_nothing_even_with_an_idempotency_key(
    ingest: httpx.AsyncClient,
    workspace: Workspace,
    publisher: Receiver,
    settings: IngestSettings,
    database: Database,
) -> None:
    before = await count_writes(settings, database)
    for _ in range(2):
        response = await check(ingest, workspace, [submitted_row(), {}], **{"Idempotency-Key": "k"})
        assert response.status_code == 200
        assert "idempotent-replayed" not in response.headers
    assert await count_writes(settings, database) == before
    assert len(publisher.requests) == 2


async def count_writes(settings: IngestSettings, database: Database) -> tuple[int, int]:
    records = await read_records(
        settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.IMPORTS
    )
    entries = await database.fetch_first(select(func.count().label("count")).select_from(requests))
    assert entries is not None
    return len(records), int(entries["count"])


async def test_an_import_without_a_valid_row_is_checked_without_the_publisher(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    document = (await check(ingest, workspace, [{}])).json()
    assert (document["failed_rows"], publisher.requests) == (1, [])


@pytest.mark.parametrize(
    ("rows", "query", "code"),
    [
        ([], "", "empty_import"),
        ({}, "", "invalid_payload"),
        ([{}], "&timezone=X", "invalid_parameter"),
    ],
)
async def test_a_document_that_an_import_refuses_is_refused(
    ingest: httpx.AsyncClient, workspace: Workspace, rows: Any, query: str, code: str
) -> None:
    response = await check(ingest, workspace, rows, query)
    assert (response.status_code, response.json()["detail"]["code"]) == (422, code)


async def test_an_error_of_the_publisher_is_answered_with_its_code(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    detail = {"code": "database_unavailable", "message": "The database is away.", "help": "/x"}
    publisher.answer = lambda _: Reply(503, {"Retry-After": "1"}, orjson.dumps({"detail": detail}))
    response = await check(ingest, workspace, [submitted_row()])
    assert (response.status_code, response.json()["detail"]["code"]) == (
        503,
        "database_unavailable",
    )
    assert response.headers["retry-after"] == "1"


async def test_an_answer_that_is_no_json_means_that_the_publisher_is_unavailable(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    publisher.answer = lambda _: Reply(502, body=b"<html>")
    response = await check(ingest, workspace, [submitted_row()])
    assert (response.status_code, response.json()["detail"]["code"]) == (
        503,
        "service_unavailable",
    )


async def test_the_scope_write_is_required(
    ingest: httpx.AsyncClient, database: Database, publisher: Receiver
) -> None:
    reader = await make_workspace(database, scopes=(Scope.READ,))
    assert (await check(ingest, reader, [submitted_row()])).status_code == 403
    assert publisher.requests == []


async def test_dry_runs_are_counted(
    ingest: httpx.AsyncClient, workspace: Workspace, publisher: Receiver
) -> None:
    def read() -> float:
        return float(metrics.IMPORT_CHECKS.labels("json")._value.get())

    before = read()
    await check(ingest, workspace, [submitted_row()])
    assert (read() - before, len(publisher.requests)) == (1, 1)
