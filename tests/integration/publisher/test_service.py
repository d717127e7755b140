"""The whole publisher: rows, outcomes, pin events, schedules, single pins, queries."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import text

from services.publisher.app import create_app
from services.publisher.config import PublisherSettings
from services.publisher.ids import compute_pin_id
from shared.access.keys import Scope
from shared.contract.events import Fault, RowAccepted, RowResult, RowsSettled
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.support.events import event_document, parse_event
from tests.support.factories import row_accepted, submitted_row
from tests.support.kafka import read_records
from tests.support.services import running_app
from tests.support.waiting import eventually


class Publisher:
    """The running service and the topics around it."""

    def __init__(
        self, http: httpx.AsyncClient, producer: RecordProducer, kafka: str, prefix: str
    ) -> None:
        self.http = http
        self._producer = producer
        self._kafka = kafka
        self._prefix = prefix

    async def deliver(self, *rows: RowAccepted) -> None:
        records = [Record(str(row.job_id).encode(), encode(row)) for row in rows]
        await self._producer.send(TopicNames(self._prefix)[TopicName.IMPORTS], records)

    async def deliver_bytes(self, value: bytes) -> None:
        await self._producer.send(
            TopicNames(self._prefix)[TopicName.IMPORTS], [Record(b"k", value)]
        )

    async def outcomes(self, job_id: UUID) -> list[RowResult]:
        """Reads every result of the job, in the order of the topic."""
        events = [
            parse_event(RowsSettled, record.value or b"")
            for record in await self.records(TopicName.OUTCOMES)
        ]
        return [result for event in events if event.job_id == job_id for result in event.results]

    async def pin_events(self, pin_id: UUID) -> list[tuple[str, str]]:
        """Reads the ce_type and ce_id of each event of the pin."""
        events = []
        for record in await self.records(TopicName.PIN_EVENTS):
            headers = {name: value.decode() for name, value in record.headers}
            if json.loads(record.value or b"{}")["pin_id"] == str(pin_id):
                events.append((headers["ce_type"], headers["ce_id"]))
        return events

    async def records(self, name: TopicName) -> list[Any]:
        return await read_records(self._kafka, self._prefix, name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(kafka: str, topic_prefix: str, database_url: str) -> FastAPI:
    settings = PublisherSettings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        database_url=database_url,
        schedule_interval_seconds=0.1,
    )
    return create_app(settings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def publisher(app: FastAPI, kafka: str, topic_prefix: str) -> AsyncIterator[Publisher]:
    producer = RecordProducer(PublisherSettings(kafka_bootstrap_servers=kafka), client_id="test")
    await producer.start()
    async with running_app(app) as http:
        yield Publisher(http, producer, kafka, topic_prefix)
    await producer.stop()


def build_row(workspace: Workspace, **fields: Any) -> RowAccepted:
    return row_accepted(
        **{"workspace_id": workspace.id, "account_id": str(workspace.account_id), **fields}
    )


async def wait_for_outcomes(publisher: Publisher, job_id: UUID, count: int = 1) -> list[RowResult]:
    async def find_enough() -> list[RowResult] | None:
        events = await publisher.outcomes(job_id)
        return events if len(events) >= count else None

    return await eventually(find_enough, every=0.1)


async def test_a_row_is_settled_and_announced(publisher: Publisher, workspace: Workspace) -> None:
    row = build_row(workspace)
    await publisher.deliver(row)
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    pin_id = compute_pin_id(workspace.id, row.row.idempotency_key)
    assert (result.status, result.pin_id, result.idempotency_key) == (
        "created",
        pin_id,
        row.row.idempotency_key,
    )

    async def announced() -> list[tuple[str, str]]:
        return await publisher.pin_events(pin_id)

    assert await eventually(announced, every=0.1) == [
        ("pinflow.pin.published.v1", f"{pin_id}:published")
    ]


async def test_invariant_4_a_redelivered_row_reports_the_same_with_the_same_event_id(
    publisher: Publisher, workspace: Workspace
) -> None:
    row = build_row(workspace)
    await publisher.deliver(row)
    await wait_for_outcomes(publisher, row.job_id)
    await publisher.deliver(row)
    first, second = await wait_for_outcomes(publisher, row.job_id, 2)
    assert first == second
    pin_id = first.pin_id
    assert pin_id is not None

    async def announced_twice() -> list[tuple[str, str]] | None:
        events = await publisher.pin_events(pin_id)
        return events if len(events) >= 2 else None

    assert len(set(await eventually(announced_twice, every=0.1))) == 1


async def test_invariant_7_pin_events_follow_row_numbers(
    publisher: Publisher, workspace: Workspace
) -> None:
    job = uuid4()
    rows = [
        build_row(workspace, job_id=job, row_number=number, idempotency_key=f"in-order-{number}")
        for number in range(1, 41)
    ]
    await publisher.deliver(*rows)
    await wait_for_outcomes(publisher, job, 40)

    async def announced() -> list[int] | None:
        events = [
            json.loads(record.value or b"{}")
            for record in await publisher.records(TopicName.PIN_EVENTS)
        ]
        numbers = [event["row_number"] for event in events if event["job_id"] == str(job)]
        return numbers if len(numbers) >= 40 else None

    assert await eventually(announced, every=0.1) == list(range(1, 41))


async def test_invariant_8_an_unreadable_row_with_a_known_identity_settles_as_failed(
    publisher: Publisher, workspace: Workspace
) -> None:
    row = build_row(workspace)
    document = event_document(row)
    document["version"] = 99
    del document["row"]["title"]
    newer = json.dumps(
        document, separators=(",", ":")
    ).encode()  # the first bytes still say that it is a row
    await publisher.deliver_bytes(newer)
    await publisher.deliver_bytes(b"\x00garbage")
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    assert (result.status, result.error_code) == ("failed", "internal_error")

    async def are_dead_letters() -> bool:
        dead_letters = await publisher.records(TopicName.DEAD_LETTERS)
        return {dead_letter.value for dead_letter in dead_letters} >= {newer, b"\x00garbage"}

    await eventually(are_dead_letters, every=0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("row_number", 2**31), ("row_number", 0), ("accepted_at", "2026-11-23T12:00:00")],
)
async def test_invariant_8_a_row_that_ingest_never_writes_blocks_no_other_row(
    publisher: Publisher, workspace: Workspace, field: str, value: object
) -> None:
    foreign = json.dumps({**event_document(build_row(workspace)), field: value}).encode()
    await publisher.deliver_bytes(foreign)
    row = build_row(workspace)
    await publisher.deliver(row)
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    assert result.status == "created"

    async def is_dead_letter() -> bool:
        return foreign in {
            dead_letter.value for dead_letter in await publisher.records(TopicName.DEAD_LETTERS)
        }

    await eventually(is_dead_letter, every=0.1)


async def test_a_row_that_fails_its_checks_reports_a_fault_like_validation(
    publisher: Publisher, workspace: Workspace
) -> None:
    row = build_row(workspace, board_id="nowhere")
    await publisher.deliver(row)
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    message = (
        "no board nowhere on this account. See its boards: GET /v1/pinterest/boards?account_id="
        f"{workspace.account_id}, or pinflow template."
    )
    assert result.error_message == f"board_id: {message}"
    fault = Fault(code="board_not_found", field="board_id", message=message, value="nowhere")
    assert result.errors == [fault]


async def test_a_row_with_a_misspelled_board_is_asked_which_board_it_means(
    publisher: Publisher, workspace: Workspace
) -> None:
    for number in (1, 2, 3):
        await workspace.operator.add_board(
            workspace.id, workspace.account_id, f"54975581388801000{number}", name=f"Shelf {number}"
        )
    misspelled, unknown = (
        build_row(workspace, board_id=name, idempotency_key=name) for name in ("Shelv 3", "Shelf 4")
    )
    await publisher.deliver(misspelled)
    await publisher.deliver(unknown)
    (result,) = await wait_for_outcomes(publisher, misspelled.job_id)
    assert (result.error_message or "").startswith(
        "board_id: no board Shelv 3 on this account. Did you mean Shelf 3 (549755813888010003)? "
        "See its boards: GET"
    )
    (result,) = await wait_for_outcomes(publisher, unknown.job_id)
    assert "Did you mean" not in (result.error_message or "")


async def make_due(database: Database, pin_id: UUID) -> None:
    """Sets a pin's run_at to now, so that no test depends on how fast it runs."""
    async with database.transaction() as connection:
        due = text("update publisher.pins set run_at = now() where pin_id = :id")
        await connection.execute(due, {"id": pin_id})


async def test_a_row_for_later_is_scheduled_then_published_when_due(
    publisher: Publisher, workspace: Workspace, database: Database
) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    row = build_row(workspace, run_at=at.isoformat(), accepted_at=datetime.now(UTC))
    await publisher.deliver(row)
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    pin_id = compute_pin_id(workspace.id, row.row.idempotency_key)
    assert (result.pin_id, result.schedule_id) == (None, derive_schedule_id(pin_id))
    path = f"/v1/schedules/{result.schedule_id}"
    before = (await publisher.http.get(path, headers=workspace.headers)).json()
    assert (before["status"], before["pin_id"]) == ("scheduled", None)
    await make_due(database, pin_id)

    async def published() -> Any:
        schedule = (await publisher.http.get(path, headers=workspace.headers)).json()
        return schedule if schedule["status"] == "done" else None

    assert (await eventually(published))["pin_id"] == str(pin_id)
    pin = (await publisher.http.get(f"/v1/pins/{pin_id}", headers=workspace.headers)).json()
    assert pin["status"] == "published"
    expected = [
        ("pinflow.pin.scheduled.v1", f"{pin_id}:scheduled"),
        ("pinflow.pin.published.v1", f"{pin_id}:published"),
    ]

    async def announced() -> bool:
        return await publisher.pin_events(pin_id) == expected

    await eventually(announced, every=0.1)


async def test_a_board_removed_before_its_pin_is_due_fails_the_pin_not_the_row(
    publisher: Publisher, workspace: Workspace, database: Database
) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    row = build_row(workspace, run_at=at.isoformat(), accepted_at=datetime.now(UTC))
    await publisher.deliver(row)
    await wait_for_outcomes(publisher, row.job_id)
    async with database.transaction() as connection:
        await connection.execute(
            text("delete from access.boards where account_id = :id"), {"id": workspace.account_id}
        )
    pin_id = compute_pin_id(workspace.id, row.row.idempotency_key)
    await make_due(database, pin_id)

    async def failed() -> Any:
        answer = await publisher.http.get(f"/v1/pins/{pin_id}", headers=workspace.headers)
        return (
            answer.json()
            if answer.status_code == 200 and answer.json()["status"] == "failed"
            else None
        )

    assert (await eventually(failed))["error_code"] == "board_not_found"
    assert [result.status for result in await publisher.outcomes(row.job_id)] == ["created"]

    async def announced() -> bool:
        return [kind for kind, _ in await publisher.pin_events(pin_id)] == [
            "pinflow.pin.scheduled.v1",
            "pinflow.pin.failed.v1",
        ]

    await eventually(announced, every=0.1)


async def post_pin(publisher: Publisher, workspace: Workspace, **fields: Any) -> httpx.Response:
    body = submitted_row(**{"account_id": str(workspace.account_id), **fields})
    return await publisher.http.post("/v1/pins", json=body, headers=workspace.headers)


async def test_invariant_3_a_single_pin_is_created_once_by_any_path(
    publisher: Publisher, workspace: Workspace
) -> None:
    first = await post_pin(publisher, workspace, idempotency_key="once")
    assert (first.status_code, first.headers.get("idempotent-replayed")) == (201, None)
    again = await post_pin(publisher, workspace, idempotency_key="once")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    matching = {"payload_matches": True, "differing_fields": []}
    assert again.json() == {**first.json(), **matching}
    row = build_row(workspace, idempotency_key="once")
    await publisher.deliver(row)
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    assert (result.status, str(result.pin_id)) == ("existing", first.json()["id"])

    async def announced() -> bool:
        return [kind for kind, _ in await publisher.pin_events(UUID(first.json()["id"]))] == [
            "pinflow.pin.published.v1"
        ]

    await eventually(announced, every=0.1)


async def test_a_single_pin_with_faults_is_422_with_all_of_them(
    publisher: Publisher, workspace: Workspace
) -> None:
    answer = await post_pin(publisher, workspace, title="", dominant_color="red")
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (422, "validation_error")
    assert [fault["field"] for fault in detail["errors"]] == ["title", "dominant_color"]


async def test_a_single_pin_on_a_scheduled_key_is_409(
    publisher: Publisher, workspace: Workspace
) -> None:
    row = build_row(workspace, run_at="2031-01-01T00:00:00Z", idempotency_key="taken")
    await publisher.deliver(row)
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    answer = await post_pin(publisher, workspace, idempotency_key="taken")
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"], detail["schedule_id"]) == (
        409,
        "already_scheduled",
        str(result.schedule_id),
    )


async def test_pins_are_listed_newest_first_in_pages(
    publisher: Publisher, workspace: Workspace
) -> None:
    for number in range(3):
        await post_pin(publisher, workspace, idempotency_key=f"page-{number}")
    page = await publisher.http.get("/v1/pins?limit=2&offset=0", headers=workspace.headers)
    rest = await publisher.http.get("/v1/pins?limit=2&offset=2", headers=workspace.headers)
    assert page.headers["x-total-count"] == "3"
    assert [pin["idempotency_key"] for pin in [*page.json(), *rest.json()]] == [
        "page-2",
        "page-1",
        "page-0",
    ]


@pytest.mark.parametrize(
    "query",
    [
        *(
            "sort=title",
            "sort=run_at_asc",
            "status=done",
            "removed=perhaps",
            "q=%00",
            "error_code=%00",
            "board_id=%00",
            "account_id=x",
        ),
        *(
            "limit=0",
            "limit=201",
            "offset=-1",
            "offset=1000001",
            "since=yesterday",
            "since=1767225600",
            "until=2026-01-01T00:00:00",
        ),
        *("cursor=", "cursor=a.b", "cursor=abc", "cursor=eyJ2IjoxfQ"),
    ],
)
async def test_an_invalid_list_query_is_refused(
    publisher: Publisher, workspace: Workspace, query: str
) -> None:
    answer = await publisher.http.get(f"/v1/pins?{query}", headers=workspace.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (422, "invalid_parameter")


async def test_a_pin_with_an_asset_has_the_assets_address(
    publisher: Publisher, workspace: Workspace
) -> None:
    asset = str(uuid4())
    pin = (await post_pin(publisher, workspace, image_url=None, asset_id=asset)).json()
    assert pin["image_url"] == pin["media_url"]
    assert pin["image_url"].endswith(f"/v1/assets/{asset}")


async def test_invariant_10_a_rows_schedule_does_not_exist_for_another_workspace(
    publisher: Publisher, workspace: Workspace, database: Database
) -> None:
    other = await make_workspace(database)
    row = build_row(workspace, run_at="2031-01-01T00:00:00Z")
    await publisher.deliver(row)
    (result,) = await wait_for_outcomes(publisher, row.job_id)
    path = f"/v1/schedules/{result.schedule_id}"
    assert (await publisher.http.get(path, headers=workspace.headers)).status_code == 200
    answer = await publisher.http.get(path, headers=other.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")


async def test_a_read_key_may_not_write(publisher: Publisher, database: Database) -> None:
    reader = await make_workspace(database, scopes=(Scope.READ,))
    assert (await publisher.http.get("/v1/pins", headers=reader.headers)).status_code == 200
    answer = await post_pin(publisher, reader)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (403, "insufficient_scope")


async def test_no_key_and_a_wrong_key_are_401(publisher: Publisher) -> None:
    for headers in (
        {},
        {"X-API-Key": "pf_wrong"},
        {"Authorization": "Bearer pf_wrong"},
        {"Authorization": "Basic abc"},
    ):
        answer = await publisher.http.get("/v1/pins", headers=headers)
        assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "unauthorized")
        assert "www-authenticate" in answer.headers


async def test_x_api_key_wins_over_the_bearer_token(
    publisher: Publisher, workspace: Workspace
) -> None:
    two_keys = {"X-API-Key": workspace.api_key, "Authorization": "Bearer pf_wrong"}
    assert (await publisher.http.get("/v1/pins", headers=two_keys)).status_code == 200
    bearer = {"Authorization": f"Bearer {workspace.api_key}"}
    assert (await publisher.http.get("/v1/pins", headers=bearer)).status_code == 200


async def test_metrics_count_settled_rows(publisher: Publisher) -> None:
    metrics = (await publisher.http.get("/metrics")).text
    assert 'pinflow_rows_settled_total{service="publisher",status="created"}' in metrics
    assert 'pinflow_oldest_unprocessed_seconds{consumer="publisher",member="0"}' in metrics
    assert "pinflow_batch_seconds_bucket" in metrics
    assert "pinflow_dead_letters_total" in metrics
