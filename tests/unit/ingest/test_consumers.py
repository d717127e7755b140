"""What becomes of a batch of requests when some of it fails. The ledger and Kafka are stood in for; tests/integration has the real ones."""

import asyncio
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord

from services.ingest import consumers
from services.ingest.admission import Admission
from services.ingest.config import IngestSettings
from services.ingest.consumers import ImportRequestsHandler
from services.ingest.repository import Claim, RequestKey, Standing
from services.ingest.service import Records
from shared import metrics
from shared.access.directories import WorkspaceDirectory
from shared.bodies import parse_json
from shared.cloudevents import EventType, headers
from shared.errors import BrokerUnavailable
from shared.events import IMPORT_EVENT
from shared.topics import TopicName
from tests.factories import submitted
from tests.waiting import eventually

WORKSPACE = uuid4()


class MemoryLedger:
    def __init__(self) -> None:
        self.standing: dict[RequestKey, Standing] = {}

    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, Standing]:
        for claim in claims:
            self.standing.setdefault(claim.key, Standing(claim.body_hash, claim.job_id, claim.accepted_at, committed=False))
        return {claim.key: self.standing[claim.key] for claim in claims}

    async def mark_committed(self, keys: Sequence[RequestKey]) -> None:
        for key in keys:
            self.standing[key] = self.standing[key]._replace(committed=True)

    def committed(self) -> set[str]:
        return {key.request_id for key, standing in self.standing.items() if standing.committed}


class EveryWorkspace:
    async def exists(self, _workspace_id: UUID) -> bool:
        return True


class Transactions:
    """Commits when told to, and fails for the requests it is told to."""

    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.headers: list[list[tuple[str, bytes]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, records: Records, _started: float | None = None) -> None:
        request_id = IMPORT_EVENT.validate_json(records[TopicName.IMPORTS][0].value).request_id or ""
        self.begun.append(request_id)
        self.headers += [record.headers for record in records.get(TopicName.ROWS, ())]
        if request_id in self.failing:
            raise self.failing[request_id]
        await self.gate.wait()
        self.ended.append(request_id)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
async def transactions() -> Transactions:
    return Transactions()


@pytest.fixture
def handler(ledger: MemoryLedger, transactions: Transactions) -> ImportRequestsHandler:
    settings = IngestSettings(transactional_producers=2, consumer_poison_limit=3)
    return ImportRequestsHandler(ledger, cast("WorkspaceDirectory", EveryWorkspace()), transactions, Admission(settings), settings)


def request(name: str, **fields: Any) -> "ConsumerRecord[bytes, bytes]":
    return record(json.dumps({"request_id": name, "workspace_id": str(WORKSPACE), "rows": [submitted(), {}], **fields}).encode())


def record(value: bytes, *more: tuple[str, bytes]) -> "ConsumerRecord[bytes, bytes]":
    about = headers(EventType.IMPORT_REQUESTED, event_id="e", source="/planner", time=datetime.now(UTC))
    return ConsumerRecord("t", 0, 0, 0, 0, b"k", value, None, 0, 0, (*about, *more))


async def handle(handler: ImportRequestsHandler, *records: "ConsumerRecord[bytes, bytes]") -> list[str]:
    """The messages of the dead letters."""
    decoded, poison = handler.decode(records)
    return [letter.reason.message for letter in [*poison, *await handler.process(decoded, poison)]]


def counted(outcome: str) -> float:
    return float(metrics.IMPORTS.labels("topic", outcome)._value.get())


async def test_a_failed_commit_neither_undoes_nor_repeats_the_others(
    handler: ImportRequestsHandler, ledger: MemoryLedger, transactions: Transactions
) -> None:
    batch = [request("a"), request("b"), request("c")]
    transactions.failing = {"a": BrokerUnavailable("away")}
    with pytest.raises(BrokerUnavailable, match="away"):
        await handle(handler, *batch)
    assert ledger.committed() == {"b", "c"}
    transactions.failing = {}
    await handle(handler, *batch)
    assert sorted(transactions.ended) == ["a", "b", "c"]


async def test_nothing_is_left_committing_when_one_fails(
    handler: ImportRequestsHandler, ledger: MemoryLedger, transactions: Transactions
) -> None:
    """Or the retry would commit under the same job ids at the same time."""
    transactions.failing = {"a": BrokerUnavailable("away")}
    transactions.gate.clear()
    handling = asyncio.create_task(handle(handler, request("a"), request("b")))
    await eventually(lambda: transactions.begun == ["a", "b"])
    assert not handling.done()
    transactions.gate.set()
    with pytest.raises(BrokerUnavailable):
        await handling
    assert ledger.committed() == {"b"}


async def test_no_more_commits_begin_than_there_are_producers(handler: ImportRequestsHandler, transactions: Transactions) -> None:
    """The others would wait for a producer with their deadline running."""
    transactions.gate.clear()
    handling = asyncio.create_task(handle(handler, *(request(str(number)) for number in range(8))))
    await eventually(lambda: len(transactions.begun) == 2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(transactions.begun) == 2
    transactions.gate.set()
    await handling
    assert len(transactions.ended) == 8


async def test_an_import_is_counted_once_after_its_commit(handler: ImportRequestsHandler, transactions: Transactions) -> None:
    accepted, rejected, rows = counted("accepted"), counted("rejected"), metrics.ROWS_SETTLED.labels("ingest", "failed")._value.get()
    batch = [request("a"), request("b", rows=[])]
    transactions.failing = {"a": BrokerUnavailable("away"), "b": BrokerUnavailable("away")}
    with pytest.raises(BrokerUnavailable):
        await handle(handler, *batch)
    assert (counted("accepted"), counted("rejected")) == (accepted, rejected)
    transactions.failing = {}
    for _ in range(2):
        await handle(handler, *batch)
    assert (counted("accepted"), counted("rejected")) == (accepted + 1, rejected + 1)
    assert metrics.ROWS_SETTLED.labels("ingest", "failed")._value.get() == rows + 1


@pytest.mark.parametrize("field", ["request_id", "workspace_id"])
async def test_a_dead_letter_says_what_is_wrong_and_nothing_of_the_payload(handler: ImportRequestsHandler, field: str) -> None:
    (message,) = await handle(handler, request("a", **{field: ["s3cret"]}))
    assert message.startswith(f"{field}: ")
    assert "s3cret" not in message


async def test_bodies_are_parsed_off_the_event_loop(handler: ImportRequestsHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()

    def watched(body: bytes) -> Any:
        threads.add(threading.get_ident())
        return parse_json(body)

    monkeypatch.setattr(consumers, "parse_json", watched)
    await handle(handler, request("a"), request("b"))
    assert threads
    assert threading.get_ident() not in threads


async def test_invariant_8_the_rows_of_a_replayed_request_know_how_often_it_was_replayed(
    handler: ImportRequestsHandler, transactions: Transactions
) -> None:
    again = record(request("again").value or b"", ("pinflow-replay-count", b"2"), ("trace", b"x"))
    assert await handle(handler, request("first"), again) == []
    assert transactions.headers == [[], [("pinflow-replay-count", b"2")]]
