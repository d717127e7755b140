"""The internal route that checks an import: its answers, its bounds, and that it writes nothing."""

import json
from typing import Any

from sqlalchemy import text

from services.publisher.imports.dependencies import MAX_ROWS_BYTES
from shared.contract.events import MAX_ROWS
from shared.contract.wire import encode
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client, read_error
from tests.integration.publisher.imports import Import, later

COUNTS = text("""
    select (select count(*) from publisher.pins) as pins,
        (select count(*) from publisher.row_outcomes) as outcomes,
        (select count(*) from publisher.outbox) as events
""")


def build_body(job: Import) -> dict[str, Any]:
    return {"rows": [json.loads(encode(row)) for row in job.rows]}


async def test_a_check_answers_each_row_and_writes_nothing(
    client: Client, database: Database
) -> None:
    before = Import(client, database, {"idempotency_key": "taken", "title": "Before"})
    await before.settle()
    job = Import(
        client,
        database,
        {},
        {"run_at": later()},
        {"idempotency_key": "taken"},
        {"board_id": "gone"},
        {"idempotency_key": "twice"},
        {"idempotency_key": "twice", "title": "Other"},
    )
    counts = await database.fetch_all(COUNTS)
    answer = await client.call_internally("imports/check", build_body(job))
    assert answer.status_code == 200, answer.text
    checked = answer.json()["results"]
    assert await database.fetch_all(COUNTS) == counts
    statuses = [result["status"] for result in checked]
    assert statuses == ["created", "created", "existing", "failed", "created", "existing"]
    assert [item["field"] for item in checked[2]["differing_fields"]] == ["title"]
    assert [item["field"] for item in checked[5]["differing_fields"]] == ["title"]
    assert checked == [json.loads(encode(result)) for result in await job.settle()]


async def test_results_are_in_the_order_of_the_rows(client: Client, database: Database) -> None:
    job = Import(client, database, *[{} for _ in range(5)])
    job.rows.reverse()
    answer = await client.call_internally("imports/check", build_body(job))
    assert [result["row_number"] for result in answer.json()["results"]] == [5, 4, 3, 2, 1]


async def test_the_largest_import_is_checked(client: Client, database: Database) -> None:
    """500 rows with 16 kB each."""
    text_fields = {"description": "\N{ROBOT FACE}" * 500, "alt_text": "\N{ROBOT FACE}" * 500}
    terms = [f"{number:02}" + "\N{ROBOT FACE}" * 70 for number in range(40)]
    job = Import(
        client, database, *[{**text_fields, "related_terms": terms} for _ in range(MAX_ROWS)]
    )
    body = build_body(job)
    size = len(json.dumps(body, ensure_ascii=False).encode())
    assert 5_000_000 < size < MAX_ROWS_BYTES
    answer = await client.call_internally("imports/check", body)
    assert answer.status_code == 200, answer.text
    assert [result["status"] for result in answer.json()["results"]] == ["created"] * MAX_ROWS


async def test_no_rows_have_no_results(client: Client) -> None:
    answer = await client.call_internally("imports/check", {"rows": []})
    assert answer.json() == {"results": []}


async def test_rows_that_ingest_would_not_send_are_refused(
    client: Client, database: Database
) -> None:
    (row,) = build_body(Import(client, database, {}))["rows"]
    bodies: list[dict[str, Any]] = [
        {},
        {"rows": 1},
        {"rows": [{}]},
        {"rows": [{**row, "workspace_id": "x"}]},
    ]
    for body in bodies:
        answer = await client.call_internally("imports/check", body)
        assert read_error(answer) == (422, "invalid_payload")
    answer = await client.call_internally("imports/check", {"rows": [row] * (MAX_ROWS + 1)})
    assert read_error(answer) == (422, "invalid_payload")


async def test_a_body_beyond_the_limit_is_refused(client: Client) -> None:
    body = {"rows": "x" * MAX_ROWS_BYTES}
    answer = await client.call_internally("imports/check", body)
    assert read_error(answer) == (413, "payload_too_large")
