"""Imports with an Idempotency-Key: one job for each key, across replicas, crashes and lost answers.

Kafka and Postgres are real.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import func, select, text, update

from services.ingest.admission.backlog import LagSample
from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue
from services.ingest.app import create_app
from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from services.ingest.keyed_imports import LEASE, KeyedImportService, RequestCleaner
from services.ingest.ledger import Channel, RequestKey, new_claim
from services.ingest.ledger_codec import RequestDecision, pack
from services.ingest.model import Import, ImportEnd
from services.ingest.parsing.reading import Reading
from services.ingest.parsing.rows import ParsedRows
from services.ingest.records import ImportBatch, build_batch
from services.ingest.repository import DELETE_OLD, PostgresRequestLedger
from services.ingest.service import ImportLog, ImportService
from services.ingest.submissions import ImportSubmission, submit_json
from services.ingest.tables import requests
from shared.access.keys import Scope
from shared.contract.errors import (
    AcceptanceUnknown,
    ApiError,
    BrokerUnavailable,
    DatabaseUnavailable,
    Overloaded,
)
from shared.contract.events import (
    FileUploaded,
    ImportAccepted,
    RecordKind,
    RowAccepted,
    SourceType,
    decode_import,
)
from shared.contract.topics import TopicName
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.integration.conftest import Workspace, make_workspace
from tests.support.events import parse_event
from tests.support.factories import submitted_row
from tests.support.import_batches import select_values
from tests.support.imports import new_reader, validate
from tests.support.kafka import read_records
from tests.support.services import running_app
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-installation"
CSV = b"account_id,board_id,title,image_url,idempotency_key\n"


@pytest.fixture(scope="module")
def settings(kafka: str, topic_prefix: str, database_url: str) -> IngestSettings:
    return IngestSettings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        database_url=SecretStr(database_url),
        internal_token=SecretStr(TOKEN),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(settings: IngestSettings) -> AsyncIterator[list[httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                running_app(create_app(settings.model_copy(update={"replica": name})))
            )
            for name in ("a", "b")
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def import_log(settings: IngestSettings) -> AsyncIterator[KafkaImportLog]:
    import_log = KafkaImportLog(settings)
    await import_log.start()
    yield import_log
    await import_log.stop()


@pytest.fixture
def ledger(database: Database) -> PostgresRequestLedger:
    return PostgresRequestLedger(database)


class Topic:
    """Reads the topic `imports`."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings

    async def read_jobs(self, workspace_id: UUID) -> list[ImportAccepted]:
        """Returns the imports of a workspace, each as often as it was appended."""
        values = select_values(await self._read(), RecordKind.IMPORT)
        events = [decode_import(value) for value in values]
        return [
            event
            for event in events
            if isinstance(event, ImportAccepted) and event.workspace_id == workspace_id
        ]

    async def read_values(self, job_id: UUID | str, kind: RecordKind) -> list[bytes]:
        records = await self._read_records()
        key = str(job_id).encode()
        return select_values((record.value for record in records if record.key == key), kind)

    async def _read(self) -> list[bytes | None]:
        return [record.value for record in await self._read_records()]

    async def _read_records(self) -> Sequence[Any]:
        return await read_records(
            self._settings.kafka_bootstrap_servers,
            self._settings.topic_prefix,
            TopicName.IMPORTS,
        )


@pytest.fixture
def topic(settings: IngestSettings) -> Topic:
    return Topic(settings)


class FailingLog:
    """Appends for real, and fails before or after that as told."""

    def __init__(self, import_log: KafkaImportLog) -> None:
        self._import_log = import_log
        self.before: Exception | None = None
        self.after: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def append(self, batch: ImportBatch, started: float | None = None) -> ImportEnd | None:
        self.waiting += 1
        await self.gate.wait()
        if self.before:
            raise self.before
        end = await self._import_log.append(batch, started)
        if self.after:
            raise self.after
        return end


@pytest_asyncio.fixture(loop_scope="module")
async def log(import_log: KafkaImportLog) -> FailingLog:
    return FailingLog(import_log)


def build_service(
    log: ImportLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    admission: AdmissionControl | None = None,
) -> KeyedImportService:
    return KeyedImportService(build_imports(log, settings, admission), ledger)


def build_imports(
    log: ImportLog, settings: IngestSettings, admission: AdmissionControl | None = None
) -> ImportService:
    return ImportService(
        log,
        admission or AdmissionControl(settings),
        ImportQueue.from_settings(settings),
        new_reader(),
        keep_uploads=True,
    )


def http_key(workspace: Workspace, name: str) -> RequestKey:
    return RequestKey(workspace.id, name, Channel.HTTP)


def submit(workspace: Workspace, *rows: dict[str, Any]) -> ImportSubmission:
    document = rows or (submitted_row(idempotency_key="k"), {})
    return submit_json(workspace.id, json.dumps(document).encode())


async def count_entries(database: Database, workspace: Workspace) -> int:
    row = await database.fetch_first(
        select(func.count().label("count")).where(requests.c.workspace_id == workspace.id)
    )
    assert row is not None
    return int(row["count"])


async def end_leases(database: Database, workspace: Workspace) -> None:
    """Does what time does: the leases of crashed attempts end."""
    async with database.transaction() as connection:
        await connection.execute(
            update(requests)
            .where(requests.c.workspace_id == workspace.id, requests.c.busy_until.is_not(None))
            .values(busy_until=datetime.now(UTC) - timedelta(seconds=1))
        )


async def post_json(
    client: httpx.AsyncClient, workspace: Workspace, body: bytes, key: str | None, query: str = ""
) -> httpx.Response:
    headers = {**workspace.headers, "Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    return await client.post(f"/v1/pins/imports/json{query}", content=body, headers=headers)


async def post_csv(
    client: httpx.AsyncClient,
    workspace: Workspace,
    data: bytes,
    key: str,
    *,
    name: str = "a.csv",
    query: str = "",
) -> httpx.Response:
    return await client.post(
        f"/v1/pins/imports/csv{query}",
        files={"file": (name, data, "text/csv")},
        headers={**workspace.headers, "Idempotency-Key": key},
    )


def read_error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["detail"]["code"]


def csv_of(workspace: Workspace, *titles: str) -> bytes:
    rows = [f"{workspace.account_id},b,{title},https://a.example/x.png,{title}" for title in titles]
    return CSV + "\n".join(rows).encode()


async def test_the_same_request_at_another_replica_answers_with_the_first_job(
    replicas: list[httpx.AsyncClient], workspace: Workspace, topic: Topic
) -> None:
    body = json.dumps([submitted_row(), {}]).encode()
    first = await post_json(replicas[0], workspace, body, "k")
    again = await post_json(replicas[1], workspace, body, "k")
    assert (first.status_code, "idempotent-replayed" in first.headers) == (202, False)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    (job,) = await topic.read_jobs(workspace.id)
    assert str(job.job_id) == first.json()["id"]


async def test_a_csv_is_recognized_by_its_file_and_not_by_the_multipart_body(
    replicas: list[httpx.AsyncClient], workspace: Workspace, topic: Topic
) -> None:
    data = csv_of(workspace, "Lamp", "Chair")
    first = await post_csv(replicas[0], workspace, data, "k", name="a.csv")
    again = await post_csv(replicas[1], workspace, data, "k", name="b.csv")  # another boundary too
    assert first.status_code == 202
    assert again.content == first.content
    assert len(await topic.read_jobs(workspace.id)) == 1


@pytest.mark.parametrize(
    "query",
    ["?strict=true", "?timezone=Europe/Berlin", "?past_run_at=fail", "?on_existing=update"],
)
async def test_other_parameters_under_a_key_are_refused(
    replicas: list[httpx.AsyncClient], workspace: Workspace, query: str
) -> None:
    body = json.dumps([submitted_row()]).encode()
    assert (await post_json(replicas[0], workspace, body, "k")).status_code == 202
    refused = await post_json(replicas[1], workspace, body, "k", query)
    assert read_error(refused) == (422, "idempotency_key_reused")
    defaults = "?strict=false&past_run_at=publish&on_existing=report&account=%20"
    assert (await post_json(replicas[1], workspace, body, "k", defaults)).status_code == 202


async def test_another_body_or_endpoint_under_a_key_is_refused(
    replicas: list[httpx.AsyncClient], workspace: Workspace
) -> None:
    body = json.dumps([submitted_row()]).encode()
    assert (await post_json(replicas[0], workspace, body, "k")).status_code == 202
    refused = await post_json(replicas[0], workspace, body + b" ", "k")
    assert read_error(refused) == (422, "idempotency_key_reused")
    refused = await post_csv(replicas[0], workspace, body, "k")
    assert read_error(refused) == (422, "idempotency_key_reused")


async def test_invariant_10_workspaces_have_keys_of_their_own(
    replicas: list[httpx.AsyncClient], workspace: Workspace, database: Database
) -> None:
    other = await make_workspace(database)
    body = json.dumps([submitted_row()]).encode()
    first, second = [await post_json(replicas[0], each, body, "k") for each in (workspace, other)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] != second.json()["id"]
    assert "idempotent-replayed" not in second.headers
    different = await post_json(replicas[0], other, body + b" ", "k2")
    assert different.status_code == 202


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"[]", "empty_import"), (b"{", "invalid_json"), (b"[1]", "invalid_payload")],
)
async def test_a_refused_import_can_be_corrected_under_its_key(
    replicas: list[httpx.AsyncClient],
    workspace: Workspace,
    database: Database,
    body: bytes,
    code: str,
) -> None:
    for _ in range(2):
        assert read_error(await post_json(replicas[0], workspace, body, "k")) == (422, code)
    assert await count_entries(database, workspace) == 0
    corrected = json.dumps([submitted_row()]).encode()
    assert (await post_json(replicas[1], workspace, corrected, "k")).status_code == 202


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_an_invalid_key_is_refused(
    replicas: list[httpx.AsyncClient], workspace: Workspace, key: str
) -> None:
    body = json.dumps([submitted_row()]).encode()
    assert read_error(await post_json(replicas[0], workspace, body, key)) == (
        422,
        "invalid_parameter",
    )


async def test_concurrent_equal_requests_at_two_replicas_are_one_job(
    replicas: list[httpx.AsyncClient], workspace: Workspace, topic: Topic
) -> None:
    body = json.dumps([submitted_row() for _ in range(100)]).encode()
    answers = await asyncio.gather(
        *(post_json(replicas[number % 2], workspace, body, "k") for number in range(12))
    )
    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert accepted
    assert len({answer.content for answer in accepted}) == 1
    assert all(read_error(answer) == (409, "request_in_progress") for answer in refused)
    assert all(answer.headers["retry-after"] == "2" for answer in refused)
    again = await post_json(replicas[1], workspace, body, "k")
    assert again.content == accepted[0].content
    assert len(await topic.read_jobs(workspace.id)) == 1


async def test_a_request_under_way_is_answered_with_409_and_other_content_with_422(
    log: FailingLog, ledger: PostgresRequestLedger, settings: IngestSettings, workspace: Workspace
) -> None:
    service = build_service(log, ledger, settings)
    log.gate.clear()
    key, submission = http_key(workspace, "k"), submit(workspace)
    first = asyncio.create_task(service.accept(submission, key))
    await eventually(lambda: log.waiting)
    with pytest.raises(ApiError) as under_way:
        await service.accept(submission, key)
    assert (under_way.value.status, under_way.value.code) == (409, "request_in_progress")
    with pytest.raises(ApiError) as reused:
        await service.accept(submit(workspace, submitted_row()), key)
    assert reused.value.code == "idempotency_key_reused"
    log.gate.set()
    accepted = await first
    again = await service.accept(submission, key)
    assert (again.event, again.is_replay) == (accepted.event, True)


@pytest.mark.parametrize("is_appended", [True, False])
async def test_invariant_1_after_acceptance_unknown_the_same_request_becomes_the_same_job(
    log: FailingLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    workspace: Workspace,
    topic: Topic,
    *,
    is_appended: bool,
) -> None:
    service, other = (build_service(log, ledger, settings) for _ in range(2))
    key, submission = http_key(workspace, "k"), submit(workspace)
    log.before, log.after = (
        (None, AcceptanceUnknown("lost"))
        if is_appended
        else (
            AcceptanceUnknown("lost"),
            None,
        )
    )
    with pytest.raises(ApiError) as unknown:
        await service.accept(submission, key)
    assert (unknown.value.status, unknown.value.code) == (503, "acceptance_unknown")
    assert "same Idempotency-Key" in unknown.value.message
    log.before = log.after = None
    accepted = await other.accept(submission, key)  # at once: the lease was freed
    assert str(accepted.event.job_id) == unknown.value.details["job_id"]
    jobs = await topic.read_jobs(workspace.id)
    assert jobs == [accepted.event] * (2 if is_appended else 1)
    assert (await service.accept(submission, key)).event == accepted.event


async def test_nothing_stays_claimed_if_kafka_certainly_does_not_have_the_import(
    log: FailingLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    workspace: Workspace,
    database: Database,
    topic: Topic,
) -> None:
    service = build_service(log, ledger, settings)
    log.before = BrokerUnavailable("away")
    with pytest.raises(BrokerUnavailable):
        await service.accept(submit(workspace), http_key(workspace, "k"))
    assert await count_entries(database, workspace) == 0
    log.before = None
    accepted = await service.accept(submit(workspace, submitted_row()), http_key(workspace, "k"))
    assert await topic.read_jobs(workspace.id) == [accepted.event]


async def test_nothing_stays_claimed_if_the_backlog_is_full(
    log: FailingLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    workspace: Workspace,
    database: Database,
) -> None:
    limited = settings.model_copy(update={"max_unsettled_rows_per_workspace": 1})
    admission = AdmissionControl(limited)
    admission.observe(LagSample(asyncio.get_running_loop().time(), {0: 0}, {0: 0}))
    service = build_service(log, ledger, limited, admission)
    with admission.reserve(workspace.id, 1), pytest.raises(Overloaded):
        await service.accept(submit(workspace), http_key(workspace, "k"))
    assert await count_entries(database, workspace) == 0


async def test_a_request_that_may_be_in_kafka_is_not_forgotten_when_its_retry_is_refused(
    log: FailingLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    workspace: Workspace,
    topic: Topic,
) -> None:
    service = build_service(log, ledger, settings)
    key, submission = http_key(workspace, "k"), submit(workspace)
    log.after = AcceptanceUnknown("lost")
    with pytest.raises(ApiError):
        await service.accept(submission, key)
    log.before, log.after = BrokerUnavailable("away"), None
    with pytest.raises(BrokerUnavailable):
        await service.accept(submission, key)
    log.before = None
    accepted = await service.accept(submission, key)
    assert await topic.read_jobs(workspace.id) == [accepted.event] * 2


async def test_a_crash_between_claim_and_decision_is_taken_over_when_its_lease_ends(
    log: FailingLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    workspace: Workspace,
    database: Database,
    topic: Topic,
) -> None:
    service = build_service(log, ledger, settings)
    key, submission = http_key(workspace, "k"), submit(workspace)
    await ledger.begin(new_claim(key, await submission.compute_hash()), LEASE)  # and crashes
    with pytest.raises(ApiError) as under_way:
        await service.accept(submission, key)
    assert under_way.value.code == "request_in_progress"
    await end_leases(database, workspace)
    accepted = await service.accept(submission, key)
    assert not accepted.is_replay
    assert await topic.read_jobs(workspace.id) == [accepted.event]


async def test_invariant_4_a_crash_between_decision_and_append_reuses_the_decision(
    log: FailingLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    workspace: Workspace,
    database: Database,
    topic: Topic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older version may have sent the batch already, with rows that this version refuses."""
    service = build_service(log, ledger, settings)
    key, submission = http_key(workspace, "k"), submit(workspace)
    claim = new_claim(key, await submission.compute_hash())
    attempt = await ledger.begin(claim, LEASE)
    assert attempt is not None
    assert attempt.lease is not None
    decided = Import(
        claim.job_id,
        workspace.id,
        claim.accepted_at,
        SourceType.JSON,
        None,
        validate([submitted_row(), submitted_row(), {}]),
    )
    decision = pack(RequestDecision(build_batch(decided), accepted=True, failed_rows=1))
    assert await ledger.keep_decision(key, attempt.lease, decision, LEASE)  # and crashes
    monkeypatch.setattr(Reading, "complete", lambda *_: ParsedRows())
    await end_leases(database, workspace)
    accepted = await service.accept(submission, key)
    assert (accepted.event.job_id, accepted.event.total_rows) == (claim.job_id, 3)
    assert await topic.read_jobs(workspace.id) == [accepted.event]
    assert len(await topic.read_values(claim.job_id, RecordKind.ROW)) == 2


async def test_an_attempt_that_has_lost_its_lease_appends_nothing(
    ledger: PostgresRequestLedger,
    log: FailingLog,
    settings: IngestSettings,
    workspace: Workspace,
    database: Database,
    topic: Topic,
) -> None:
    class SlowLedger(PostgresRequestLedger):
        """Another attempt takes the lease before this one stores its decision."""

        async def keep_decision(self, *values: Any) -> datetime | None:
            await end_leases(database, workspace)
            await build_service(log, ledger, settings).accept(submission, key)
            return await super().keep_decision(*values)

    key, submission = http_key(workspace, "k"), submit(workspace)
    with pytest.raises(ApiError) as lost:
        await build_service(log, SlowLedger(database), settings).accept(submission, key)
    assert lost.value.code == "request_in_progress"
    again = await build_service(log, ledger, settings).accept(submission, key)
    assert again.is_replay
    assert await topic.read_jobs(workspace.id) == [again.event]


async def test_an_import_is_accepted_although_postgres_is_lost_after_the_append(
    log: FailingLog,
    ledger: PostgresRequestLedger,
    settings: IngestSettings,
    workspace: Workspace,
    database: Database,
    topic: Topic,
) -> None:
    class ForgetfulLedger(PostgresRequestLedger):
        async def complete(self, *_: Any) -> None:
            raise DatabaseUnavailable("away")

    key, submission = http_key(workspace, "k"), submit(workspace)
    accepted = await build_service(log, ForgetfulLedger(database), settings).accept(submission, key)
    await end_leases(database, workspace)
    again = await build_service(log, ledger, settings).accept(submission, key)
    assert again == (accepted.event, True)
    assert await topic.read_jobs(workspace.id) == [accepted.event] * 2  # the same job, twice


async def test_without_postgres_an_import_with_a_key_is_refused_and_one_without_is_accepted(
    log: FailingLog, settings: IngestSettings, workspace: Workspace, topic: Topic
) -> None:
    away = Database.from_settings(
        DatabaseSettings(database_url=SecretStr("postgresql://nobody@127.0.0.1:1/nothing")),
        application="tests",
    )
    imports = build_imports(log, settings)
    with pytest.raises(DatabaseUnavailable):
        await KeyedImportService(imports, PostgresRequestLedger(away)).accept(
            submit(workspace), http_key(workspace, "k")
        )
    assert await topic.read_jobs(workspace.id) == []
    accepted = await imports.accept(submit(workspace))
    assert await topic.read_jobs(workspace.id) == [accepted.event]
    await away.dispose()


async def test_old_requests_over_http_are_deleted_and_those_by_topic_are_kept(
    ledger: PostgresRequestLedger, workspace: Workspace, database: Database
) -> None:
    old = datetime.now(UTC) - timedelta(days=8)
    for number in range(3):
        key = http_key(workspace, str(number))
        claim = new_claim(key, b"h")._replace(accepted_at=old)
        await ledger.begin(claim, timedelta(seconds=-1))
    leased = new_claim(http_key(workspace, "leased"), b"h")._replace(accepted_at=old)
    await ledger.begin(leased, LEASE)
    await ledger.begin(new_claim(http_key(workspace, "young"), b"h"), timedelta(seconds=-1))
    topic_claim = new_claim(RequestKey(workspace.id, "topic"), b"h")._replace(accepted_at=old)
    await ledger.claim([topic_claim])
    assert await ledger.delete_old(timedelta(days=7), 2) == 2
    assert await RequestCleaner(ledger, timedelta(days=7)).delete_old_requests() == 1
    rows = await database.fetch_all(
        select(requests.c.request_id).where(requests.c.workspace_id == workspace.id)
    )
    assert {row["request_id"] for row in rows} == {"leased", "young", "topic"}


async def test_the_cleaner_reads_old_entries_by_their_index(database: Database) -> None:
    """Most entries are requests by topic, which are kept."""
    fill = text("""
        insert into ingest.requests (
            workspace_id, channel, request_id, body_hash, job_id, accepted_at
        )
        select gen_random_uuid(), case when n % 20 = 0 then 'http' else 'topic' end, n::text, '',
            gen_random_uuid(), now() - n * interval '1 minute'
        from generate_series(1, 40000) n
    """)
    statement = DELETE_OLD.replace("%b::interval", "interval '7 days'").replace("%b", "500")
    async with database.transaction() as connection:
        await connection.execute(fill)
        await connection.execute(text("analyze ingest.requests"))
        rows = await connection.execute(text(f"explain {statement}"))
        plan = "\n".join(row[0] for row in rows)
        await connection.rollback()
    assert "Index Scan using requests_to_delete" in plan
    assert "Seq Scan" not in plan


async def test_rows_and_upload_have_the_parameters_of_their_import(
    replicas: list[httpx.AsyncClient], workspace: Workspace, topic: Topic
) -> None:
    query = "?on_existing=revive&strict=true&timezone=Europe/Berlin&encoding=utf-8"
    answer = await post_csv(replicas[0], workspace, csv_of(workspace, "Lamp"), "k", query=query)
    job_id = answer.json()["id"]
    (row,) = await topic.read_values(job_id, RecordKind.ROW)
    assert parse_event(RowAccepted, row).on_existing == "revive"
    (upload,) = await topic.read_values(job_id, RecordKind.UPLOAD)
    parameters = parse_event(FileUploaded, upload.partition(b"\n")[0]).parameters
    assert parameters is not None
    assert (
        parameters.strict,
        parameters.timezone,
        parameters.past_run_at,
        parameters.encoding,
        parameters.on_existing,
    ) == (True, "Europe/Berlin", None, "utf-8", "revive")


async def test_the_rows_of_a_usual_import_do_not_mention_on_existing(
    replicas: list[httpx.AsyncClient], workspace: Workspace, topic: Topic
) -> None:
    body = json.dumps([submitted_row()]).encode()
    answer = await post_json(replicas[0], workspace, body, None)
    (row,) = await topic.read_values(answer.json()["id"], RecordKind.ROW)
    assert b"on_existing" not in row


class TestRetries:
    """The internal route for failed rows that are sent again."""

    async def post(self, client: httpx.AsyncClient, token: str = TOKEN, **fields: Any) -> Any:
        return await client.post(
            "/internal/imports", json=fields, headers={"Authorization": f"Bearer {token}"}
        )

    def build(self, workspace: Workspace, **fields: Any) -> dict[str, Any]:
        return {
            "workspace_id": str(workspace.id),
            "key": "retry-1",
            "parent_id": str(uuid4()),
            "source_type": "csv",
            "source_filename": "a.csv",
            "rows": [submitted_row(idempotency_key="k"), {}],
            "lines": [3, 7],
            "parameters": {"on_existing": "update"},
            "account_ids": None,
            **fields,
        }

    async def test_rows_become_one_child_job(
        self, replicas: list[httpx.AsyncClient], workspace: Workspace, topic: Topic
    ) -> None:
        document = self.build(workspace)
        first = await self.post(replicas[0], **document)
        again = await self.post(replicas[1], **document)
        assert first.status_code == 200
        assert again.json()["id"] == first.json()["id"]
        (job,) = await topic.read_jobs(workspace.id)
        assert (str(job.job_id), str(job.parent_id), job.source_type, job.source_filename) == (
            first.json()["id"],
            document["parent_id"],
            "csv",
            "a.csv",
        )
        (row,) = await topic.read_values(job.job_id, RecordKind.ROW)
        accepted = parse_event(RowAccepted, row)
        assert (accepted.line, accepted.on_existing) == (3, "update")

    async def test_its_keys_are_not_those_of_clients(
        self, replicas: list[httpx.AsyncClient], workspace: Workspace
    ) -> None:
        body = json.dumps([submitted_row()]).encode()
        assert (await post_json(replicas[0], workspace, body, "retry-1")).status_code == 202
        assert (await self.post(replicas[0], **self.build(workspace))).status_code == 200

    async def test_other_rows_under_a_key_are_refused(
        self, replicas: list[httpx.AsyncClient], workspace: Workspace
    ) -> None:
        document = self.build(workspace)
        assert (await self.post(replicas[0], **document)).status_code == 200
        refused = await self.post(replicas[0], **{**document, "rows": [submitted_row()]})
        assert read_error(refused) == (422, "idempotency_key_reused")

    async def test_a_row_for_an_account_that_the_api_key_does_not_permit_fails(
        self, replicas: list[httpx.AsyncClient], workspace: Workspace, topic: Topic
    ) -> None:
        document = self.build(workspace, account_ids=[str(uuid4())])
        job = (await self.post(replicas[0], **document)).json()
        assert await topic.read_values(job["id"], RecordKind.ROW) == []

    @pytest.mark.parametrize("token", ["", "wrong"])
    async def test_the_token_is_required(
        self, replicas: list[httpx.AsyncClient], workspace: Workspace, token: str
    ) -> None:
        refused = await self.post(replicas[0], token, **self.build(workspace))
        assert read_error(refused) == (403, "internal_access_denied")

    @pytest.mark.parametrize(
        "fields",
        [
            {"rows": []},
            {"rows": None},
            {"key": ""},
            {"parameters": {"past_run_at": "never"}},
            {"lines": ["x"]},
        ],
    )
    async def test_an_invalid_document_is_refused(
        self, replicas: list[httpx.AsyncClient], workspace: Workspace, fields: dict[str, Any]
    ) -> None:
        refused = await self.post(replicas[0], **self.build(workspace, **fields))
        assert refused.status_code == 422


async def test_a_key_without_the_scope_write_can_not_import(
    replicas: list[httpx.AsyncClient], database: Database
) -> None:
    reader = await make_workspace(database, scopes=(Scope.READ,))
    body = json.dumps([submitted_row()]).encode()
    assert (await post_json(replicas[0], reader, body, "k")).status_code == 403
    assert await count_entries(database, reader) == 0
