"""Batches of requests in which some fail.

The ledger and Kafka are fakes. tests/integration has the real ones.
"""

import asyncio
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord

from services.ingest import import_requests
from services.ingest.admission.control import AdmissionControl
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestHandler
from services.ingest.import_request_service import ImportRequestService
from services.ingest.ledger import Claim, LedgerEntry, RequestKey
from services.ingest.parsing.reading import Reading
from services.ingest.parsing.rows import ParsedRows
from services.ingest.records import ImportBatch
from shared.access.cache import WorkspaceCache
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable
from shared.contract.events import (
    FileUploaded,
    ImportRejected,
    OnExisting,
    RecordKind,
    UploadParameters,
)
from shared.contract.import_records import kind_prefix
from shared.contract.strict_json import parse_json
from shared.kafka.positions.advance import Advance
from shared.runtime import metrics
from tests.support.events import parse_event
from tests.support.factories import submitted_row
from tests.support.import_batches import read_import, read_results, read_rows, read_values
from tests.support.imports import new_reader
from tests.support.waiting import eventually

WORKSPACE = uuid4()


class MemoryLedger:
    def __init__(self) -> None:
        self.entries: dict[RequestKey, LedgerEntry] = {}

    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, LedgerEntry]:
        for claim in claims:
            self.entries.setdefault(
                claim.key,
                LedgerEntry(claim.body_hash, claim.job_id, claim.accepted_at, is_committed=False),
            )
        return {claim.key: self.entries[claim.key] for claim in claims}

    async def store_decision(self, key: RequestKey, _job_id: UUID, decision: bytes) -> bytes | None:
        entry = self.entries[key]
        if entry.is_committed:
            return None
        self.entries[key] = entry._replace(decision=entry.decision or decision)
        return self.entries[key].decision

    async def mark_committed(self, keys: Sequence[RequestKey]) -> None:
        for key in keys:
            self.entries[key] = self.entries[key]._replace(is_committed=True, decision=None)

    def committed_request_ids(self) -> set[str]:
        return {key.request_id for key, entry in self.entries.items() if entry.is_committed}


class EveryWorkspace:
    async def exists(self, _workspace_id: UUID) -> bool:
        return True


class FakeImportLog:
    """Appends while `gate` is open and fails for the requests in `failing`."""

    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.headers: list[list[tuple[str, bytes]]] = []
        self.batches: list[ImportBatch] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        request_id = read_import(batch).request_id or ""
        self.begun.append(request_id)
        self.batches.append(batch)
        self.headers += [
            record.headers
            for record in batch.records
            if record.value.startswith(kind_prefix(RecordKind.ROW))
        ]
        if request_id in self.failing:
            raise self.failing[request_id]
        await self.gate.wait()
        self.ended.append(request_id)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
async def log() -> FakeImportLog:
    return FakeImportLog()


@pytest.fixture
def handler(ledger: MemoryLedger, log: FakeImportLog) -> ImportRequestHandler:
    settings = IngestSettings(imports_at_once=2, consumer_poison_limit=3)
    return ImportRequestHandler(
        ImportRequestService(
            ledger,
            cast("WorkspaceCache", EveryWorkspace()),
            log,
            AdmissionControl(settings),
            new_reader(),
            settings,
        )
    )


def build_request(name: str, **fields: Any) -> "ConsumerRecord[bytes, bytes]":
    return build_record(
        json.dumps(
            {
                "request_id": name,
                "workspace_id": str(WORKSPACE),
                "rows": [submitted_row(), {}],
                **fields,
            }
        ).encode()
    )


def build_record(value: bytes, *more_headers: tuple[str, bytes]) -> "ConsumerRecord[bytes, bytes]":
    headers = build_headers(
        EventType.IMPORT_REQUESTED, event_id="e", source="/planner", time=datetime.now(UTC)
    )
    return ConsumerRecord("t", 0, 0, 0, 0, b"k", value, None, 0, 0, (*headers, *more_headers))


async def handle(
    handler: ImportRequestHandler, *records: "ConsumerRecord[bytes, bytes]"
) -> list[str]:
    """Processes the records and returns the messages of the dead letters."""
    decoded, poison = handler.decode(records)
    return [
        dead_letter.reason.message
        for dead_letter in [*poison, *await handler.process(decoded, poison, Advance())]
    ]


def read_counter(outcome: str) -> float:
    return float(metrics.IMPORTS.labels("topic", outcome)._value.get())


async def test_a_failed_append_neither_undoes_nor_repeats_the_others(
    handler: ImportRequestHandler, ledger: MemoryLedger, log: FakeImportLog
) -> None:
    batch = [build_request("a"), build_request("b"), build_request("c")]
    log.failing = {"a": BrokerUnavailable("away")}
    with pytest.raises(BrokerUnavailable, match="away"):
        await handle(handler, *batch)
    assert ledger.committed_request_ids() == {"b", "c"}
    log.failing = {}
    await handle(handler, *batch)
    assert sorted(log.ended) == ["a", "b", "c"]


async def test_no_append_is_still_running_when_a_batch_fails(
    handler: ImportRequestHandler, ledger: MemoryLedger, log: FakeImportLog
) -> None:
    """A running append would race with the retry, which uses the same job ids."""
    log.failing = {"a": BrokerUnavailable("away")}
    log.gate.clear()
    handling = asyncio.create_task(handle(handler, build_request("a"), build_request("b")))
    await eventually(lambda: sorted(log.begun) == ["a", "b"])
    assert not handling.done()
    log.gate.set()
    with pytest.raises(BrokerUnavailable):
        await handling
    assert ledger.committed_request_ids() == {"b"}


async def test_concurrent_appends_are_limited_by_imports_at_once(
    handler: ImportRequestHandler, log: FakeImportLog
) -> None:
    """More appends would wait while their deadline runs."""
    log.gate.clear()
    handling = asyncio.create_task(
        handle(handler, *(build_request(str(number)) for number in range(8)))
    )
    await eventually(lambda: len(log.begun) == 2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(log.begun) == 2
    log.gate.set()
    await handling
    assert len(log.ended) == 8


async def test_an_import_is_counted_once_after_its_append(
    handler: ImportRequestHandler, log: FakeImportLog
) -> None:
    accepted, rejected, rows = (
        read_counter("accepted"),
        read_counter("rejected"),
        metrics.ROWS_SETTLED.labels("ingest", "failed")._value.get(),
    )
    batch = [build_request("a"), build_request("b", rows=[])]
    log.failing = {"a": BrokerUnavailable("away"), "b": BrokerUnavailable("away")}
    with pytest.raises(BrokerUnavailable):
        await handle(handler, *batch)
    assert (read_counter("accepted"), read_counter("rejected")) == (accepted, rejected)
    log.failing = {}
    for _ in range(2):
        await handle(handler, *batch)
    assert (read_counter("accepted"), read_counter("rejected")) == (accepted + 1, rejected + 1)
    assert metrics.ROWS_SETTLED.labels("ingest", "failed")._value.get() == rows + 1


@pytest.mark.parametrize("field", ["request_id", "workspace_id"])
async def test_a_dead_letters_message_names_the_fault_without_the_payload(
    handler: ImportRequestHandler, field: str
) -> None:
    (message,) = await handle(handler, build_request("a", **{field: ["s3cret"]}))
    assert message.startswith(f"{field}: ")
    assert "s3cret" not in message


async def test_bodies_are_parsed_off_the_event_loop(
    handler: ImportRequestHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()

    def watched(body: bytes) -> Any:
        threads.add(threading.get_ident())
        return parse_json(body)

    monkeypatch.setattr(import_requests, "parse_json", watched)
    await handle(handler, build_request("a"), build_request("b"))
    assert threads
    assert threading.get_ident() not in threads


async def test_invariant_8_the_rows_of_a_replayed_request_carry_its_replay_count(
    handler: ImportRequestHandler, log: FakeImportLog
) -> None:
    again = build_record(
        build_request("again").value or b"", ("pinflow-replay-count", b"2"), ("trace", b"x")
    )
    assert await handle(handler, build_request("first"), again) == []
    assert sorted(log.headers) == [[], [("pinflow-replay-count", b"2")]]


async def test_invariant_4_a_redelivered_request_is_not_decided_again(
    handler: ImportRequestHandler, log: FakeImportLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka may already have the batch, and a newer version may decide differently."""
    request_record = build_request("a")
    log.failing = {"a": AcceptanceUnknown("silent")}
    with pytest.raises(AcceptanceUnknown):
        await handle(handler, request_record)
    # The other rules drop every row
    monkeypatch.setattr(Reading, "complete", lambda *_: ParsedRows())
    log.failing = {}
    await handle(handler, request_record)
    first, second = log.batches
    assert first == second
    assert (
        [row.row_number for row in read_rows(second)],
        len(settled.results) if (settled := read_results(second)) else 0,
    ) == ([1], 1)


async def test_a_request_that_another_replica_has_committed_is_not_sent_again(
    handler: ImportRequestHandler,
    ledger: MemoryLedger,
    log: FakeImportLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store_decision = ledger.store_decision

    async def late(key: RequestKey, job_id: UUID, decision: bytes) -> bytes | None:
        await ledger.mark_committed([key])
        return await store_decision(key, job_id, decision)

    monkeypatch.setattr(ledger, "store_decision", late)
    assert await handle(handler, build_request("a")) == []
    assert log.batches == []


async def test_rows_and_upload_of_a_request_have_its_parameters(
    handler: ImportRequestHandler, log: FakeImportLog
) -> None:
    record = build_request("a", on_existing="update", strict=True, timezone="Europe/Berlin")
    assert await handle(handler, record) == []
    (batch,) = log.batches
    assert [row.on_existing for row in read_rows(batch)] == ["update"]
    (upload,) = read_values(batch, RecordKind.UPLOAD)
    parameters = parse_event(FileUploaded, upload.partition(b"\n")[0]).parameters
    assert parameters == UploadParameters(
        strict=True, timezone="Europe/Berlin", on_existing=OnExisting.UPDATE
    )


async def test_a_request_with_an_unknown_value_of_on_existing_becomes_a_failed_job(
    handler: ImportRequestHandler, log: FakeImportLog
) -> None:
    assert await handle(handler, build_request("a", on_existing="replace")) == []
    rejected = read_import(log.batches[0])
    assert isinstance(rejected, ImportRejected)
    assert rejected.error_code == "invalid_parameter"
    assert rejected.error_message.startswith("on_existing: ")
