"""The whole status service: it folds records, answers over HTTP and announces completed jobs."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import cramjam
import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from services.ingest.ids import new_job_id
from services.status import service
from services.status.app import create_app
from services.status.config import StatusSettings
from shared.access.keys import Scope, new_api_key
from shared.contract.events import (
    ExistingState,
    Fault,
    FieldDifference,
    FileUploaded,
    ImportAccepted,
    ImportRejected,
    Notice,
    RowResult,
    RowsSettled,
    RowStatus,
    UploadFormat,
)
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.support.factories import (
    NOON,
    created_result,
    failed_result,
    import_accepted,
    row_accepted,
    rows_settled,
)
from tests.support.kafka import read_records
from tests.support.services import running_app
from tests.support.waiting import eventually


class Status:
    def __init__(
        self, http: httpx.AsyncClient, producer: RecordProducer, kafka: str, prefix: str
    ) -> None:
        self.http = http
        self.producer = producer
        self._kafka = kafka
        self._prefix = prefix

    async def deliver(self, *events: ImportAccepted | ImportRejected | RowsSettled) -> None:
        for event in events:
            name = TopicName.OUTCOMES if isinstance(event, RowsSettled) else TopicName.IMPORTS
            await self.deliver_bytes(name, encode(event), str(event.job_id).encode())

    async def deliver_bytes(self, name: TopicName, value: bytes, key: bytes = b"k") -> None:
        await self.producer.send(TopicNames(self._prefix)[name], [Record(key, value)])

    async def job(
        self, workspace: Workspace, job_id: UUID, prefer: str = "wait=10"
    ) -> dict[str, Any]:
        """Waits for the job and returns it. The service itself waits only for young ids."""

        async def find() -> dict[str, Any] | None:
            answer = await self.http.get(
                f"/v1/pins/imports/{job_id}", headers={**workspace.headers, "Prefer": prefer}
            )
            return dict(answer.json()) if answer.status_code == HTTPStatus.OK else None

        return await eventually(find)

    async def announced(self, job_id: UUID) -> list[dict[str, Any]]:
        records = await read_records(self._kafka, self._prefix, TopicName.JOB_EVENTS)
        return [
            event
            for record in records
            if (event := json.loads(record.value or b""))["job_id"] == str(job_id)
        ]

    async def records(self, name: TopicName) -> list[Any]:
        return await read_records(self._kafka, self._prefix, name)


NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def settings(kafka: str, topic_prefix: str, database_url: str) -> StatusSettings:
    return StatusSettings(
        ingest_url=NOBODY,  # on the default port a local stack may be listening
        publisher_url=NOBODY,
        webhooks_url=NOBODY,
        access_url=NOBODY,
        kafka_bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        database_url=database_url,
        announce_interval_seconds=0.1,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def status(settings: StatusSettings, kafka: str, topic_prefix: str) -> AsyncIterator[Status]:
    producer = RecordProducer(settings, client_id="test")
    await producer.start()
    async with running_app(create_app(settings)) as http:
        yield Status(http, producer, kafka, topic_prefix)
    await producer.stop()


async def test_a_job_is_followed_to_its_end(status: Status, workspace: Workspace) -> None:
    job = import_accepted(
        job_id=new_job_id(NOON), workspace_id=workspace.id, total_rows=2, source_filename="a.csv"
    )
    await status.deliver(job, rows_settled(job, created_result(1)))
    await eventually(lambda: has_processed(status, workspace, job.job_id, 1))
    await status.deliver(rows_settled(job, failed_result(2)))
    ended = await status.job(workspace, job.job_id)
    assert (ended["status"], ended["created_rows"], ended["failed_rows"]) == (
        "completed_with_errors",
        1,
        1,
    )
    assert [result["row_number"] for result in ended["results"]] == [1, 2]
    assert (ended["source_filename"], ended["created_at"]) == ("a.csv", "2026-11-23T12:00:00Z")


async def has_processed(status: Status, workspace: Workspace, job_id: UUID, count: int) -> bool:
    answer = await status.http.get(f"/v1/pins/imports/{job_id}", headers=workspace.headers)
    return answer.status_code == 200 and answer.json()["processed_rows"] == count


async def test_a_job_counts_rows_by_time_and_warns_of_existing_rows_that_stay_unpublished(
    status: Status, workspace: Workspace
) -> None:
    job = import_accepted(
        workspace_id=workspace.id,
        total_rows=3,
        publishing_now=1,
        scheduled_for_later=2,
        warnings=[Notice(code="c", message="m", row_numbers=[1])],
    )
    deleted, published = (
        RowResult(
            row_number=number, line=number + 1, status=RowStatus.EXISTING, existing_state=state
        )
        for number, state in ((3, ExistingState.DELETED), (2, ExistingState.PUBLISHED))
    )
    await status.deliver(job, rows_settled(job, created_result(1), deleted, published))
    ended = await status.job(workspace, job.job_id)
    (listed,) = (await status.http.get("/v1/pins/imports", headers=workspace.headers)).json()
    for answer in (ended, listed):
        assert (answer["publishing_now"], answer["scheduled_for_later"]) == (1, 2)
        assert [(warning["code"], warning["row_numbers"]) for warning in answer["warnings"]] == [
            ("c", [1]),
            ("existing_not_published", [3]),
        ]
    assert [(row["line"], row["existing_state"]) for row in ended["results"]] == [
        (None, None),
        (3, "published"),
        (4, "deleted"),
    ]


async def test_a_job_of_an_earlier_version_has_no_counts_by_time(
    status: Status, workspace: Workspace
) -> None:
    job = import_accepted(workspace_id=workspace.id, total_rows=1)
    await status.deliver(job)
    answer = await status.job(workspace, job.job_id, prefer="")
    assert (answer["publishing_now"], answer["scheduled_for_later"]) == (None, None)


async def test_a_key_with_an_allow_list_reads_no_content_of_pins(
    status: Status, workspace: Workspace
) -> None:
    """A job belongs to the workspace, but its rows may concern accounts that the key can't see."""
    difference = FieldDifference(field="title", stored="Secret", sent="Sent")
    job = import_accepted(workspace_id=workspace.id, total_rows=1)
    existing = RowResult(
        row_number=1,
        status=RowStatus.EXISTING,
        payload_matches=False,
        differing_fields=[difference],
    )
    await status.deliver(job, rows_settled(job, existing))
    key = new_api_key()
    await workspace.operator.create_key(
        workspace.id, key, name="narrow", scopes=[Scope.READ], account_ids=[workspace.account_id]
    )
    narrow = replace(workspace, api_key=key.plain)
    (seen,) = (await status.job(workspace, job.job_id))["results"]
    (hidden,) = (await status.job(narrow, job.job_id))["results"]
    assert seen["differing_fields"] == [{"field": "title", "stored": "Secret", "sent": "Sent"}]
    assert hidden == {
        **seen,
        "differing_fields": [{"field": "title", "stored": None, "sent": None}],
    }


async def test_a_key_with_an_allow_list_reads_no_values_of_rows_that_failed(
    status: Status, workspace: Workspace
) -> None:
    """The row may be of another account: its result does not say which it named."""
    fault = Fault(code="string_too_long", field="title", message="is too long", value="Secret")
    job = import_accepted(workspace_id=workspace.id, total_rows=1)
    await status.deliver(job, rows_settled(job, failed_result(1, errors=[fault])))
    key = await workspace.create_limited_key(workspace.account_id)
    (seen,) = (await status.job(workspace, job.job_id))["results"]
    (hidden,) = (await status.job(replace(workspace, api_key=key), job.job_id))["results"]
    assert seen["errors"] == [
        {"code": "string_too_long", "field": "title", "message": "is too long", "value": "Secret"}
    ]
    assert hidden == {**seen, "errors": [{**seen["errors"][0], "value": None}]}


async def test_a_completed_job_is_announced_once_even_if_it_is_folded_again(
    status: Status, workspace: Workspace
) -> None:
    job = import_accepted(workspace_id=workspace.id, total_rows=1, request_id="req-1")
    await status.deliver(job, rows_settled(job, created_result(1)))
    (event,) = await eventually(lambda: status.announced(job.job_id), every=0.1)
    assert (event["status"], event["total_rows"], event["created_rows"], event["request_id"]) == (
        "completed",
        1,
        1,
        "req-1",
    )
    await status.deliver(job, rows_settled(job, created_result(1)))
    other = import_accepted(workspace_id=workspace.id, total_rows=1)
    await status.deliver(other, rows_settled(other, created_result(1)))
    await eventually(lambda: status.announced(other.job_id), every=0.1)
    assert len(await status.announced(job.job_id)) == 1


async def test_an_announcement_is_a_cloudevent_keyed_by_the_workspace(
    status: Status, workspace: Workspace
) -> None:
    job = import_accepted(workspace_id=workspace.id, total_rows=1)
    await status.deliver(job, rows_settled(job, failed_result(1)))
    await eventually(lambda: status.announced(job.job_id), every=0.1)
    (record,) = [
        record
        for record in await status.records(TopicName.JOB_EVENTS)
        if str(job.job_id).encode() in (record.value or b"")
    ]
    headers = {name: value.decode() for name, value in record.headers}
    assert record.key == str(workspace.id).encode()
    assert headers.pop("ce_time").endswith("+00:00")
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": f"{job.job_id}:completed",
        "ce_source": "/pinflow/status",
        "ce_type": "pinflow.import.completed.v1",
        "content-type": "application/json",
    }


async def test_a_rejected_request_is_a_failed_job_and_announced(
    status: Status, workspace: Workspace
) -> None:
    rejected = ImportRejected(
        job_id=uuid4(),
        workspace_id=workspace.id,
        accepted_at=NOON,
        request_id="r",
        error_code="too_many_rows",
        error_message="501 rows",
    )
    await status.deliver(rejected)
    await eventually(lambda: status.announced(rejected.job_id), every=0.1)
    job = await status.job(workspace, rejected.job_id)
    assert (job["status"], job["total_rows"], job["error_message"], job["request_id"]) == (
        "failed",
        0,
        "501 rows",
        "r",
    )


async def test_invariant_8_unfoldable_records_become_dead_letters_and_the_rest_counts(
    status: Status, workspace: Workspace
) -> None:
    job = import_accepted(workspace_id=workspace.id, total_rows=2)
    rejected = import_accepted(source_filename="a\0b")  # Postgres can't store NUL in a text
    await status.deliver_bytes(TopicName.OUTCOMES, b"garbage")
    await status.deliver_bytes(TopicName.IMPORTS, b'{"kind":"i","type":"unheard_of"}')
    await status.deliver(rejected)
    await status.deliver(job, rows_settled(job, created_result(1), created_result(2)))
    assert (await status.job(workspace, job.job_id))["created_rows"] == 2

    async def has_letters() -> bool:
        letters = await status.records(TopicName.DEAD_LETTERS)
        codes = sorted(dict(letter.headers)["pinflow-error-code"] for letter in letters)
        return codes == [b"invalid_record", b"invalid_record", b"record_refused"]

    await eventually(has_letters, every=0.1)


async def test_jobs_are_listed_newest_first_and_filtered(
    status: Status, workspace: Workspace
) -> None:
    jobs = [
        import_accepted(job_id=new_job_id(NOON), workspace_id=workspace.id, total_rows=1)
        for _ in range(3)
    ]
    csv = import_accepted(
        job_id=new_job_id(NOON),
        workspace_id=workspace.id,
        total_rows=1,
        source_type="csv",
        accepted_at=NOON.replace(hour=13),
    )
    await status.deliver(*jobs, csv, rows_settled(jobs[0], created_result(1)))
    await status.job(workspace, jobs[0].job_id)

    async def listed(query: str = "") -> tuple[list[str], str]:
        answer = await status.http.get(f"/v1/pins/imports{query}", headers=workspace.headers)
        assert all(job["results"] == [] for job in answer.json())
        return [job["id"] for job in answer.json()], answer.headers["x-total-count"]

    async def are_all_listed() -> bool:
        return (await listed())[1] == "4"

    await eventually(are_all_listed)
    ids, _ = await listed()
    assert ids[0] == str(csv.job_id)
    assert await listed("?source_type=csv") == ([str(csv.job_id)], "1")
    assert await listed("?status=completed") == ([str(jobs[0].job_id)], "1")
    assert await listed("?limit=2&offset=3") == (ids[3:], "4")
    assert await listed("?limit=1&offset=100") == ([], "4")


async def test_invariant_10_another_workspaces_job_is_not_found(
    status: Status, workspace: Workspace, database: Database
) -> None:
    job = import_accepted(workspace_id=workspace.id, total_rows=1)
    await status.deliver(job, rows_settled(job, created_result(1)))
    await status.job(workspace, job.job_id)
    other = await make_workspace(database)
    answer = await status.http.get(f"/v1/pins/imports/{job.job_id}", headers=other.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")
    assert (await status.http.get("/v1/pins/imports", headers=other.headers)).json() == []


async def get_missing(
    http: httpx.AsyncClient, workspace: Workspace, job_id: UUID
) -> tuple[int, str]:
    """Gets a missing job. Returns the answer's status and code."""
    answer = await http.get(f"/v1/pins/imports/{job_id}", headers=workspace.headers)
    return answer.status_code, answer.json()["detail"]["code"]


async def test_an_unknown_young_job_is_503_and_not_404(
    status: Status, workspace: Workspace
) -> None:
    """Kafka may append its import minutes after the answer `acceptance_unknown`."""
    job = import_accepted(
        job_id=new_job_id(datetime.now(UTC)), workspace_id=workspace.id, total_rows=1
    )
    answer = await status.http.get(f"/v1/pins/imports/{job.job_id}", headers=workspace.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "status_behind")
    assert answer.json()["detail"]["job_id"] == str(job.job_id)
    assert answer.headers["Retry-After"] == "2"
    await status.deliver(job)
    assert (await status.job(workspace, job.job_id, "wait=0"))["total_rows"] == 1


async def test_a_young_job_that_is_folded_during_the_request_is_returned(
    status: Status, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine a fold may take longer than 2 s
    monkeypatch.setattr(service, "MAX_FOLD_WAIT_SECONDS", 20)
    job = import_accepted(
        job_id=new_job_id(datetime.now(UTC)), workspace_id=workspace.id, total_rows=1
    )
    request = asyncio.create_task(
        status.http.get(f"/v1/pins/imports/{job.job_id}", headers=workspace.headers)
    )
    await status.deliver(job)
    answer = await request
    assert (answer.status_code, answer.json()["total_rows"]) == (200, 1)


async def test_an_unknown_old_job_is_not_found(status: Status, workspace: Workspace) -> None:
    assert await get_missing(
        status.http, workspace, new_job_id(datetime.now(UTC) - timedelta(minutes=6))
    ) == (404, "not_found")


async def test_invariant_10_another_workspaces_young_job_is_not_found_at_once(
    status: Status, workspace: Workspace, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = import_accepted(
        job_id=new_job_id(datetime.now(UTC)), workspace_id=workspace.id, total_rows=1
    )
    await status.deliver(job)
    await status.job(workspace, job.job_id, "wait=0")
    monkeypatch.setattr(service, "MAX_FOLD_WAIT_SECONDS", 3600)  # the request must not wait
    assert await get_missing(status.http, await make_workspace(database), job.job_id) == (
        404,
        "not_found",
    )


async def test_any_replica_returns_jobs_that_another_has_folded(
    status: Status, workspace: Workspace, settings: StatusSettings
) -> None:
    async with running_app(create_app(settings.model_copy(update={"replica": "1"}))) as second:
        jobs = [
            import_accepted(
                job_id=new_job_id(datetime.now(UTC)), workspace_id=workspace.id, total_rows=1
            )
            for _ in range(6)
        ]
        await status.deliver(*jobs)
        other = Status(
            second, status.producer, settings.kafka_bootstrap_servers, settings.topic_prefix
        )
        for replica in (status, other):
            assert [(await replica.job(workspace, job.job_id, "wait=0"))["id"] for job in jobs] == [
                str(job.job_id) for job in jobs
            ]


async def test_an_upload_is_stored_with_its_import(
    status: Status, workspace: Workspace, database: Database
) -> None:
    job = import_accepted(workspace_id=workspace.id, total_rows=1)
    header = FileUploaded(
        job_id=job.job_id, workspace_id=workspace.id, format=UploadFormat.CSV, size=5
    )
    content = bytes(cramjam.zstd.compress(b"title"))
    await status.deliver(job)
    await status.deliver_bytes(
        TopicName.IMPORTS,
        encode(header) + b"\n" + content,
        str(job.job_id).encode(),
    )
    kept = text("select workspace_id, content from status.uploads where job_id = :id").bindparams(
        id=job.job_id
    )
    assert await eventually(lambda: database.fetch_first(kept)) == {
        "workspace_id": workspace.id,
        "content": content,
    }


async def test_status_skips_rows_and_records_of_unknown_kinds(
    status: Status, workspace: Workspace
) -> None:
    job = import_accepted(workspace_id=workspace.id, total_rows=1)
    row = encode(row_accepted(job_id=job.job_id, workspace_id=workspace.id))
    others = [row, b'{"kind":"x"}', b"garbage"]
    letters = len(await status.records(TopicName.DEAD_LETTERS))
    for value in others:
        await status.deliver_bytes(TopicName.IMPORTS, value, str(job.job_id).encode())
    await status.deliver(job)
    assert (await status.job(workspace, job.job_id, "wait=0"))["total_rows"] == 1
    assert len(await status.records(TopicName.DEAD_LETTERS)) == letters


async def test_readiness_names_the_services_without_an_answer(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_client(*_: object, **__: object) -> None:
        raise AssertionError("Each check created an HTTP client, with its own TLS context.")

    async def is_ready() -> bool:
        return (await status.http.get("/internal/readyz")).status_code == 200

    assert await eventually(is_ready)  # a test before may have changed the group's members
    monkeypatch.setattr(httpx.AsyncClient, "__init__", another_client)
    answer = await status.http.get("/readyz")
    report = answer.json()
    assert (answer.status_code, report["status"], report["database"]) == (503, "unavailable", "ok")
    assert report["checks"] == {
        "runtime": "ok",
        "database": "ok",
        "ingest": "no answer",
        "publisher": "no answer",
        "access": "no answer",
        "webhooks": "no answer",
    }
    assert await is_ready()
