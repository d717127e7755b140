"""Imports requested by topic: one job for each request id, despite redelivery and crashes."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord
from sqlalchemy import delete, select

from services.ingest.admission.control import AdmissionControl
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestHandler
from services.ingest.ids import new_job_id
from services.ingest.import_log import KafkaImportLog
from services.ingest.import_request_service import ImportRequestService
from services.ingest.ledger import Claim, RequestKey
from services.ingest.parsing.reading import Reading
from services.ingest.parsing.rows import ParsedRows
from services.ingest.records import ImportBatch
from services.ingest.repository import PostgresRequestLedger
from services.ingest.tables import requests
from shared.access.cache import WorkspaceCache
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.errors import BrokerUnavailable, DatabaseUnavailable
from shared.contract.events import ImportAccepted, ImportRejected, RecordKind, decode_import
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.support.factories import submitted_row
from tests.support.import_batches import select_values
from tests.support.imports import new_reader
from tests.support.kafka import read_records


@pytest.fixture(scope="module")
def settings(kafka: str, topic_prefix: str) -> IngestSettings:
    return IngestSettings(
        kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix, imports_at_once=2
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def import_log(settings: IngestSettings) -> AsyncIterator[KafkaImportLog]:
    import_log = KafkaImportLog(settings)
    await import_log.start()
    yield import_log
    await import_log.stop()


@pytest.fixture
def ledger(database: Database) -> PostgresRequestLedger:
    return PostgresRequestLedger(database)


@pytest.fixture
def handler(
    ledger: PostgresRequestLedger,
    workspace: Workspace,
    import_log: KafkaImportLog,
    settings: IngestSettings,
) -> ImportRequestHandler:
    return ImportRequestHandler(
        ImportRequestService(
            ledger,
            WorkspaceCache(workspace.access),
            import_log,
            AdmissionControl(settings),
            new_reader(),
            settings,
        )
    )


NESTED = b"[" * 1015 + b"]" * 1015
"""Lists in lists, nearly as many as orjson parses. Python's repr can't show them."""


def request(workspace: Workspace, **fields: Any) -> bytes:
    document = {
        "request_id": str(uuid4()),
        "workspace_id": str(workspace.id),
        "source": "planner",
        "rows": [submitted_row()],
        **fields,
    }
    return json.dumps(document).encode()


def build_record(
    value: bytes | None, *, kind: str = EventType.IMPORT_REQUESTED
) -> "ConsumerRecord[bytes, bytes]":
    about = build_headers(
        EventType.IMPORT_REQUESTED, event_id="e", source="/planner", time=datetime.now(UTC)
    )
    about = [(name, kind.encode() if name == "ce_type" else header) for name, header in about]
    return ConsumerRecord("t", 0, 0, 0, 0, b"k", value, None, 0, 0, tuple(about))


async def handle(
    handler: ImportRequestHandler, *records: "ConsumerRecord[bytes, bytes]"
) -> list[str]:
    """Processes the records and returns the error codes of the dead letters."""
    decoded, poison = handler.decode(records)
    return [
        dead_letter.reason.code
        for dead_letter in [*poison, *await handler.process(decoded, poison, Advance())]
    ]


class ImportsTopic:
    """Reads the topic `imports`."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self._kafka = kafka
        self._prefix = prefix

    async def read_events(self, request_id: str) -> list[ImportAccepted | ImportRejected]:
        records = await read_records(self._kafka, self._prefix, TopicName.IMPORTS)
        values = select_values((record.value for record in records), RecordKind.IMPORT)
        events = [decode_import(value) for value in values]
        return [event for event in events if event.request_id == request_id]

    async def count_rows(self, job_id: UUID) -> int:
        records = await read_records(self._kafka, self._prefix, TopicName.IMPORTS)
        values = (record.value for record in records if record.key == str(job_id).encode())
        return len(select_values(values, RecordKind.ROW))


@pytest.fixture
def imports(kafka: str, topic_prefix: str) -> ImportsTopic:
    return ImportsTopic(kafka, topic_prefix)


async def test_a_request_becomes_an_import(
    handler: ImportRequestHandler, workspace: Workspace, imports: ImportsTopic
) -> None:
    assert (
        await handle(
            handler,
            build_record(
                request(workspace, request_id="a", rows=[submitted_row(), submitted_row()])
            ),
        )
        == []
    )
    (event,) = await imports.read_events("a")
    assert isinstance(event, ImportAccepted)
    assert (event.workspace_id, event.total_rows, event.source_filename, event.source_type) == (
        workspace.id,
        2,
        "planner",
        "json",
    )
    assert await imports.count_rows(event.job_id) == 2


async def test_a_redelivered_request_is_one_job(
    handler: ImportRequestHandler, workspace: Workspace, imports: ImportsTopic
) -> None:
    record = build_record(request(workspace, request_id="b"))
    assert await handle(handler, record, record) == []
    assert await handle(handler, record) == []
    assert len(await imports.read_events("b")) == 1


async def test_a_request_id_with_another_body_is_a_dead_letter(
    handler: ImportRequestHandler, workspace: Workspace, imports: ImportsTopic
) -> None:
    first, second = (
        request(workspace, request_id="c"),
        request(workspace, request_id="c", rows=[submitted_row()] * 2),
    )
    assert await handle(handler, build_record(first), build_record(second)) == ["request_id_reused"]
    assert await handle(handler, build_record(second)) == ["request_id_reused"]
    assert len(await imports.read_events("c")) == 1


async def test_a_crash_between_claim_and_append_repeats_the_same_job(
    handler: ImportRequestHandler,
    ledger: PostgresRequestLedger,
    workspace: Workspace,
    imports: ImportsTopic,
) -> None:
    body, now = request(workspace, request_id="d"), datetime.now(UTC)
    claim = Claim(
        RequestKey(workspace.id, "d"), blake2b(body, digest_size=32).digest(), new_job_id(now), now
    )
    await ledger.claim([claim])  # and then the process crashed
    assert await handle(handler, build_record(body)) == []
    (event,) = await imports.read_events("d")
    assert (event.job_id, event.accepted_at) == (claim.job_id, now)


async def test_a_crash_between_append_and_mark_repeats_the_same_job(
    ledger: PostgresRequestLedger,
    workspace: Workspace,
    import_log: KafkaImportLog,
    settings: IngestSettings,
    imports: ImportsTopic,
    handler: ImportRequestHandler,
) -> None:
    class CrashingLog:
        async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
            await import_log.append(batch)
            raise BrokerUnavailable("the process crashed")

    body = request(workspace, request_id="e")
    crashing = ImportRequestHandler(
        ImportRequestService(
            ledger,
            WorkspaceCache(workspace.access),
            CrashingLog(),
            AdmissionControl(settings),
            new_reader(),
            settings,
        )
    )
    with pytest.raises(BrokerUnavailable):
        await handle(crashing, build_record(body))
    await handle(handler, build_record(body))
    first, second = await imports.read_events("e")
    assert first == second


async def test_invariant_1_a_request_whose_claim_was_lost_by_a_restore_is_claimed_again(
    ledger: PostgresRequestLedger,
    workspace: Workspace,
    import_log: KafkaImportLog,
    settings: IngestSettings,
    imports: ImportsTopic,
    handler: ImportRequestHandler,
    database: Database,
) -> None:
    class RestoredWhileWaiting(AdmissionControl):
        """Replaces Postgres with an older copy while the request waits for capacity."""

        async def wait_for_capacity(self, workspace_id: UUID, deadline: float) -> None:
            async with database.transaction() as connection:
                await connection.execute(
                    delete(requests).where(requests.c.workspace_id == workspace_id)
                )
            await super().wait_for_capacity(workspace_id, deadline)

    record = build_record(request(workspace, request_id="r"))
    restored = ImportRequestHandler(
        ImportRequestService(
            ledger,
            WorkspaceCache(workspace.access),
            import_log,
            RestoredWhileWaiting(settings),
            new_reader(),
            settings,
        )
    )
    with pytest.raises(DatabaseUnavailable, match="claim"):
        await handle(restored, record)
    assert await handle(handler, record) == []
    assert len(await imports.read_events("r")) == 1


async def test_invariant_4_a_redelivered_request_reuses_its_decision_after_a_crash(
    ledger: PostgresRequestLedger,
    workspace: Workspace,
    import_log: KafkaImportLog,
    settings: IngestSettings,
    imports: ImportsTopic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older version may have written the batch already, with rows that this version refuses."""

    class CrashingLog:
        async def append(self, _batch: ImportBatch, _started: float | None = None, /) -> None:
            raise BrokerUnavailable("the process crashed")

    record = build_record(
        request(workspace, request_id="f", rows=[submitted_row(), {}, submitted_row()])
    )
    access = WorkspaceCache(workspace.access)
    with pytest.raises(BrokerUnavailable):
        await handle(
            ImportRequestHandler(
                ImportRequestService(
                    ledger,
                    access,
                    CrashingLog(),
                    AdmissionControl(settings),
                    new_reader(),
                    settings,
                )
            ),
            record,
        )
    monkeypatch.setattr(Reading, "complete", lambda *_: ParsedRows())
    assert (
        await handle(
            ImportRequestHandler(
                ImportRequestService(
                    ledger, access, import_log, AdmissionControl(settings), new_reader(), settings
                )
            ),
            record,
        )
        == []
    )
    (event,) = await imports.read_events("f")
    assert isinstance(event, ImportAccepted)
    assert (event.total_rows, await imports.count_rows(event.job_id)) == (3, 2)


async def test_a_request_with_hostile_names_does_not_block_its_partition(
    handler: ImportRequestHandler, workspace: Workspace, imports: ImportsTopic
) -> None:
    rows = [
        submitted_row() | {"co\ud800lor": "#6E7874", "no\0te": 1},
        submitted_row(account_id="\ud800", board_id="\0"),
    ]
    record = build_record(request(workspace, request_id="h", rows=rows, note="x", other="\ud800"))
    assert await handle(handler, record) == []
    (event,) = await imports.read_events("h")
    assert isinstance(event, ImportAccepted)
    assert [notice.code for notice in event.warnings] == [
        "unknown_fields",
        "field_aliases",
        "unknown_fields",
    ]
    assert event.warnings[0].message == (
        "Unknown fields of the request: note, other. They are ignored. Remove them."
    )


@pytest.mark.parametrize("name", ["past_run_at", "on_existing"])
async def test_invariant_8_a_parameter_that_is_nested_deeply_does_not_block_its_partition(
    handler: ImportRequestHandler, workspace: Workspace, imports: ImportsTopic, name: str
) -> None:
    body = request(workspace, request_id=name, **{name: "NESTED"})
    assert await handle(handler, build_record(body.replace(b'"NESTED"', NESTED))) == []
    (event,) = await imports.read_events(name)
    assert isinstance(event, ImportRejected)
    assert event.error_code == "invalid_json"


async def test_invariant_8_an_account_that_is_nested_deeply_fails_only_its_row(
    handler: ImportRequestHandler, workspace: Workspace, imports: ImportsTopic
) -> None:
    rows = [submitted_row(), submitted_row() | {"account_id": "NESTED"}]
    body = request(workspace, request_id="n", rows=rows)
    assert await handle(handler, build_record(body.replace(b'"NESTED"', NESTED))) == []
    (event,) = await imports.read_events("n")
    assert isinstance(event, ImportAccepted)
    assert (event.total_rows, await imports.count_rows(event.job_id)) == (2, 1)


async def test_the_decision_is_deleted_when_the_request_is_committed(
    handler: ImportRequestHandler, workspace: Workspace, database: Database
) -> None:
    assert await handle(handler, build_record(request(workspace, request_id="g"))) == []
    row = await database.fetch_first(
        select(requests).where(
            requests.c.workspace_id == workspace.id, requests.c.request_id == "g"
        )
    )
    assert row is not None
    assert (row["state"], row["decision"]) == ("committed", None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"rows": []}, "empty_import"),
        ({"past_runat": "fail"}, "unknown_parameter"),
        ({"timezone": "\ud800"}, "invalid_parameter"),
        ({"account": "\ud800"}, "invalid_parameter"),
        ({"rows": [{}] * 501}, "too_many_rows"),
        ({"rows": "no list"}, "invalid_payload"),
        ({"rows": None}, "invalid_payload"),
        ({"rows": [1]}, "invalid_payload"),
        ({"source": "s" * 256}, "invalid_payload"),
        ({"source": 7}, "invalid_payload"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_request_that_http_would_refuse_becomes_a_failed_job(
    handler: ImportRequestHandler,
    workspace: Workspace,
    imports: ImportsTopic,
    fields: dict[str, Any],
    code: str,
) -> None:
    request_id = str(uuid4())
    record = build_record(request(workspace, request_id=request_id, **fields))
    assert await handle(handler, record) == []
    assert await handle(handler, record) == []
    (event,) = await imports.read_events(request_id)  # once, because the request id is used up
    assert isinstance(event, ImportRejected)
    assert event.error_code == code
    assert event.error_message


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, EventType.IMPORT_REQUESTED),
        (b"garbage", EventType.IMPORT_REQUESTED),
        (b"[]", EventType.IMPORT_REQUESTED),
        (
            b'{"request_id": "", "workspace_id": "1f0d7e9c-0000-4000-8000-000000000000"}',
            EventType.IMPORT_REQUESTED,
        ),
        (b'{"request_id": "x", "workspace_id": "nobody"}', EventType.IMPORT_REQUESTED),
        (
            b'{"request_id": "a\\u0000b", "workspace_id": "1f0d7e9c-0000-4000-8000-000000000000"}',
            EventType.IMPORT_REQUESTED,
        ),
        (b"{}", "another.type.v1"),
    ],
)
async def test_invariant_8_a_request_without_a_valid_key_is_a_dead_letter(
    handler: ImportRequestHandler, value: bytes | None, kind: str
) -> None:
    assert await handle(handler, build_record(value, kind=kind)) == ["invalid_record"]


async def test_an_unknown_workspace_is_a_dead_letter(
    handler: ImportRequestHandler, workspace: Workspace
) -> None:
    assert await handle(handler, build_record(request(workspace, workspace_id=str(uuid4())))) == [
        "workspace_not_found"
    ]


async def test_an_invalid_request_delays_no_other(
    handler: ImportRequestHandler, workspace: Workspace, imports: ImportsTopic
) -> None:
    good = build_record(request(workspace, request_id="good"))
    codes = await handle(
        handler,
        build_record(b"garbage"),
        build_record(request(workspace, workspace_id=str(uuid4()))),
        good,
    )
    assert sorted(codes) == ["invalid_record", "workspace_not_found"]
    assert len(await imports.read_events("good")) == 1


async def test_a_decision_for_a_claim_that_now_belongs_to_another_job_is_not_stored(
    ledger: PostgresRequestLedger, workspace: Workspace
) -> None:
    """Postgres was replaced by an older copy and another replica claimed the request again."""
    key = RequestKey(workspace.id, "r")
    now = datetime.now(UTC)
    entries = await ledger.claim([Claim(key, b"h" * 32, uuid4(), now)])
    with pytest.raises(DatabaseUnavailable, match="claim"):
        await ledger.store_decision(key, uuid4(), b"of another job")
    assert await ledger.store_decision(key, entries[key].job_id, b"of this job") == b"of this job"
