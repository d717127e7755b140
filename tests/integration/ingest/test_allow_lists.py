"""Imports by a key with an account allow-list, and the rate meter, with ingest's database role."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from pinbridge_sdk.models.system import RateMeterResponse

from deploy.administration import OperatorRepository, create_key
from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from shared.access.keys import Scope
from shared.contract.events import RecordKind, RowAccepted, RowResult, RowsSettled
from shared.contract.topics import TopicName
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.support.events import parse_event
from tests.support.factories import submitted_row
from tests.support.import_batches import select_values
from tests.support.infrastructure import with_role
from tests.support.kafka import read_records
from tests.support.services import running_app
from tests.support.waiting import eventually

WORKSPACE_LIMIT, SYSTEM_LIMIT = 1000, 10_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(
    kafka: str, topic_prefix: str, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    settings = IngestSettings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        database_url=with_role(database_url, "pinflow_ingest"),
        max_unsettled_rows_per_workspace=WORKSPACE_LIMIT,
        max_unsettled_rows=SYSTEM_LIMIT,
    )
    async with running_app(create_app(settings)) as client:
        yield client


async def create_key_headers(
    database: Database, workspace: Workspace, account_ids: list[UUID] | None, *scopes: Scope
) -> dict[str, str]:
    _, plain = await create_key(
        OperatorRepository(database),
        workspace.id,
        name="test",
        scopes=scopes or list(Scope),
        account_ids=account_ids or (),
    )
    return {"X-API-Key": plain}


class Settled(NamedTuple):
    """The rows and failed results of one import in Kafka."""

    accepted: list[RowAccepted]
    failed: list[RowResult]


class Topics(NamedTuple):
    kafka: str
    prefix: str

    async def read_import(self, answer: httpx.Response) -> Settled:
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        values = [
            record.value
            for record in await read_records(self.kafka, self.prefix, TopicName.IMPORTS)
            if record.key == job_id.encode()
        ]
        rows = [parse_event(RowAccepted, value) for value in select_values(values, RecordKind.ROW)]
        outcomes = [
            parse_event(RowsSettled, value) for value in select_values(values, RecordKind.RESULTS)
        ]
        return Settled(rows, [result for event in outcomes for result in event.results])


@pytest.fixture
def topics(kafka: str, topic_prefix: str) -> Topics:
    return Topics(kafka, topic_prefix)


async def send_json(
    http: httpx.AsyncClient, headers: dict[str, str], rows: list[dict[str, Any]]
) -> httpx.Response:
    return await http.post("/v1/pins/imports/json", json=rows, headers=headers)


async def send_csv(
    http: httpx.AsyncClient, headers: dict[str, str], rows: list[dict[str, Any]]
) -> httpx.Response:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return await http.post(
        "/v1/pins/imports/csv",
        files={"file": ("rows.csv", text.getvalue().encode(), "text/csv")},
        headers=headers,
    )


@pytest.mark.parametrize("send", [send_json, send_csv], ids=["json", "csv"])
async def test_rows_for_forbidden_accounts_fail_and_the_others_are_accepted(
    http: httpx.AsyncClient, workspace: Workspace, database: Database, topics: Topics, send: Any
) -> None:
    other, absent = await workspace.add_account("board-1"), uuid4()
    headers = await create_key_headers(database, workspace, [workspace.account_id])
    targets = [workspace.account_id, other, workspace.account_id, absent, workspace.account_id]
    rows = [
        submitted_row(account_id=str(target), idempotency_key=f"k-{number}")
        for number, target in enumerate(targets, 1)
    ]
    rows[4]["title"] = "x" * 101
    imported = await topics.read_import(await send(http, headers, rows))
    assert [(row.row_number, row.row.account_id) for row in imported.accepted] == [
        (1, workspace.account_id),
        (3, workspace.account_id),
    ]
    assert [(row.row_number, row.error_code, row.idempotency_key) for row in imported.failed] == [
        (2, "account_not_permitted", "k-2"),
        (4, "account_not_permitted", "k-4"),
        (5, "validation_error", "k-5"),
    ]
    (unlisted, unknown, _) = imported.failed
    assert (unlisted.error_message or "").replace(str(other), "…") == (
        unknown.error_message or ""
    ).replace(str(absent), "…")


async def test_the_allow_list_also_applies_to_a_large_import_that_a_thread_parses(
    http: httpx.AsyncClient, workspace: Workspace, database: Database, topics: Topics
) -> None:
    headers = await create_key_headers(database, workspace, [workspace.account_id])
    rows = [
        submitted_row(account_id=str(uuid4()), padding="x" * 1024 * 1024),
        submitted_row(account_id=str(workspace.account_id)),
    ]
    imported = await topics.read_import(await send_json(http, headers, rows))
    assert [row.row_number for row in imported.accepted] == [2]
    assert [row.error_code for row in imported.failed] == ["account_not_permitted"]


async def test_a_key_without_an_allow_list_may_import_for_any_account(
    http: httpx.AsyncClient, workspace: Workspace, topics: Topics
) -> None:
    rows = [
        submitted_row(account_id=str(workspace.account_id)),
        submitted_row(account_id=str(uuid4())),
    ]
    imported = await topics.read_import(await send_json(http, workspace.headers, rows))
    assert [row.row_number for row in imported.accepted] == [
        1,
        2,
    ]  # the publisher checks whether the accounts exist
    assert imported.failed == []


async def meter(
    http: httpx.AsyncClient, headers: dict[str, str], account_id: object
) -> RateMeterResponse:
    answer = await http.get(f"/v1/rate-meter?account_id={account_id}", headers=headers)
    assert answer.status_code == 200, answer.text
    return RateMeterResponse.model_validate(answer.json())


async def test_the_rate_meter_reports_how_many_rows_may_be_imported(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    before = await meter(http, workspace.headers, workspace.account_id)
    assert (
        before.account.account_id,
        before.account.capacity,
        before.account.tokens_available,
    ) == (
        str(workspace.account_id),
        WORKSPACE_LIMIT,
        WORKSPACE_LIMIT,
    )
    assert before.global_.capacity == SYSTEM_LIMIT

    async def is_counted() -> bool:
        """Rows are counted only after the first lag sample."""
        await send_json(http, workspace.headers, [submitted_row()])
        return (
            await meter(http, workspace.headers, workspace.account_id)
        ).account.tokens_available < WORKSPACE_LIMIT

    await eventually(is_counted, every=0.2)
    before = await meter(http, workspace.headers, workspace.account_id)
    await send_json(http, workspace.headers, [submitted_row() for _ in range(30)])
    after = await meter(http, workspace.headers, workspace.account_id)
    assert (
        after.account.tokens_available == before.account.tokens_available - 30
    )  # no publisher runs here
    assert after.global_.tokens_available <= SYSTEM_LIMIT - 30
    assert after.account.refill_rate == after.global_.refill_rate == 0  # unknown


async def test_invariant_10_the_rate_meter_knows_only_accounts_that_the_key_sees(
    http: httpx.AsyncClient, workspace: Workspace, database: Database
) -> None:
    foreign, unlisted = (await make_workspace(database)).account_id, await workspace.add_account()
    narrow = await create_key_headers(database, workspace, [workspace.account_id], Scope.READ)
    assert (await meter(http, narrow, workspace.account_id)).account.capacity == WORKSPACE_LIMIT
    for account_id in (foreign, unlisted, uuid4(), "nothing"):
        answer = await http.get(f"/v1/rate-meter?account_id={account_id}", headers=narrow)
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            {
                "code": "not_found",
                "message": "Account not found. Check the id and the workspace of your API key.",
                "help": "/docs/errors#not_found",
            },
        )
    answer = await http.get("/v1/rate-meter", headers=narrow)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (422, "invalid_parameter")


async def test_the_rate_meter_requires_the_read_scope(
    http: httpx.AsyncClient, workspace: Workspace, database: Database
) -> None:
    headers = await create_key_headers(database, workspace, None, Scope.WRITE)
    answer = await http.get(f"/v1/rate-meter?account_id={workspace.account_id}", headers=headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (403, "insufficient_scope")
