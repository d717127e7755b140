"""Slow parsing does not block the event loop, and a lost leader delays only its partition."""

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID, uuid4

import pytest

from services.ingest import reader
from services.ingest.admission.backlog import LagSample
from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue
from services.ingest.config import IngestSettings
from services.ingest.keyed_imports import KeyedImportService, LeaseLedger
from services.ingest.ledger import Channel, Claim, LeasedEntry, LedgerEntry, RequestKey
from services.ingest.model import ImportEnd
from services.ingest.parsing.policy import ImportParameters, ReadingPolicy
from services.ingest.parsing.reading import RawTable, Reading
from services.ingest.records import ImportBatch
from services.ingest.service import ImportService
from services.ingest.submissions import MAX_EVENT_LOOP_BYTES, submit_csv, submit_json
from shared.contract.errors import ApiError, BrokerUnavailable, Overloaded
from tests.support.factories import submitted_row
from tests.support.imports import new_reader
from tests.support.waiting import eventually

CSV = "account_id,board_id,title,image_url,idempotency_key\n"


class AcceptingLog:
    async def append(self, batch: ImportBatch, started: float | None = None) -> None: ...


def new_imports() -> ImportService:
    settings = IngestSettings()
    return ImportService(
        AcceptingLog(),
        AdmissionControl(settings),
        ImportQueue.from_settings(settings),
        new_reader(),
        keep_uploads=True,
    )


@pytest.fixture
def parser_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the ids of the threads that validate rows."""
    threads: list[int] = []

    def read_and_record(table: RawTable, policy: ReadingPolicy) -> Reading:
        threads.append(threading.get_ident())
        return Reading(table, policy)

    monkeypatch.setattr(reader, "Reading", read_and_record)
    return threads


async def test_json_of_the_usual_size_is_parsed_on_the_event_loop(
    parser_threads: list[int],
) -> None:
    await new_imports().accept(submit_json(uuid4(), json.dumps([submitted_row()]).encode()))
    assert parser_threads == [threading.get_ident()]


async def test_large_json_is_parsed_in_a_thread(parser_threads: list[int]) -> None:
    body = json.dumps([submitted_row()]).encode() + b" " * MAX_EVENT_LOOP_BYTES
    accepted = await new_imports().accept(submit_json(uuid4(), body))
    assert accepted.event.total_rows == 1
    assert threading.get_ident() not in parser_threads


async def test_a_csv_is_parsed_in_a_thread(parser_threads: list[int]) -> None:
    accepted = await new_imports().accept(
        submit_csv(uuid4(), f"{CSV}a,b,c,d,e\n".encode(), "a.csv")
    )
    assert (accepted.event.total_rows, accepted.event.source_filename) == (1, "a.csv")
    assert threading.get_ident() not in parser_threads


@pytest.mark.parametrize("strict", [False, True])
async def test_a_csv_whose_times_would_be_ignored_is_refused(*, strict: bool) -> None:
    data = f"{CSV.strip()},Date\na,b,c,https://x.example,e,2031-12-24 09:00\n".encode()
    parameters = ImportParameters(strict=strict, timezone="Europe/Berlin")
    with pytest.raises(ApiError) as refusal:
        await new_imports().accept(submit_csv(uuid4(), data, "a.csv", parameters))
    assert refusal.value.code == "unknown_columns"
    assert refusal.value.details == {"columns": [{"column": "Date", "suggestion": "run_at"}]}
    escaped = data.replace(b",Date\n", b",Date,run_at\n")
    accepted = await new_imports().accept(submit_csv(uuid4(), escaped, "a.csv"))
    assert accepted.event.total_rows == 1


async def test_the_times_of_a_csv_are_compared_with_the_time_of_its_import() -> None:
    data = f"{CSV.strip()},Date\na,b,c,https://x.example,e,2026-12-24\n".encode()
    submission, day = submit_csv(uuid4(), data, "a.csv"), datetime(2026, 12, 24, tzinfo=UTC)
    imports = new_imports()
    read = await imports.read(submission, uuid4(), day, lambda accepted: accepted.rows.total)
    assert read == 1
    with pytest.raises(ApiError):
        await imports.read(submission, uuid4(), day - timedelta(days=1), lambda _: None)


async def test_ignored_times_of_json_rows_are_a_warning() -> None:
    rows = [submitted_row() | {"Date": "2099-12-24T09:00:00Z"}]
    accepted = await new_imports().accept(submit_json(uuid4(), json.dumps(rows).encode()))
    assert [warning.code for warning in accepted.event.warnings] == ["unknown_fields"]


async def test_an_import_is_not_parsed_if_earlier_ones_have_filled_the_workspaces_limit(
    parser_threads: list[int],
) -> None:
    settings = IngestSettings(max_unsettled_rows_per_workspace=1)
    admission, queue, workspace = (
        AdmissionControl(settings),
        ImportQueue(at_once=1, max_waiting=10, timeout_seconds=60),
        uuid4(),
    )
    admission.observe(LagSample(time.monotonic(), {0: 0}, {0: 0}))
    accepting = ImportService(AcceptingLog(), admission, queue, new_reader(), keep_uploads=True)
    async with queue.slot(uuid4()):
        accepting.require_capacity(workspace)
        waiting = asyncio.create_task(
            accepting.accept(submit_json(workspace, json.dumps([submitted_row()]).encode()))
        )
        await eventually(lambda: queue._queue.total_waiting)
        with admission.reserve(workspace, 1) as reservation:
            reservation.import_end = ImportEnd(0, 1)
    with pytest.raises(Overloaded):
        await waiting
    assert not parser_threads


async def test_the_event_loop_keeps_running_while_a_hostile_csv_is_parsed() -> None:
    reading = asyncio.create_task(
        new_imports().accept(submit_csv(uuid4(), CSV.encode() + b"\n" * 2_000_000, None))
    )
    turns = 0
    while not reading.done():
        await asyncio.sleep(0.001)
        turns += 1
    with pytest.raises(ApiError):
        await reading
    assert turns > 3


class LogWithoutOneLeader:
    """Appends immediately, except for the workspace whose partition has no leader."""

    def __init__(self, dead: UUID) -> None:
        self._dead = str(dead).encode()
        self.waiting = 0
        self.has_leader = asyncio.Event()

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        if self._dead in batch.records[0].value:
            self.waiting += 1
            await self.has_leader.wait()
            raise BrokerUnavailable("its partition has no leader")


async def test_a_partition_without_a_leader_does_not_delay_imports_of_other_partitions() -> None:
    dead, alive = uuid4(), uuid4()
    settings = IngestSettings(imports_at_once=2)
    log = LogWithoutOneLeader(dead)
    accepting = ImportService(
        log,
        AdmissionControl(settings),
        ImportQueue.from_settings(settings),
        new_reader(),
        keep_uploads=False,
    )
    body = json.dumps([submitted_row()]).encode()
    blocked = [asyncio.create_task(accepting.accept(submit_json(dead, body))) for _ in range(10)]
    await eventually(lambda: log.waiting == 10)  # more than imports_at_once
    for _ in range(5):
        async with asyncio.timeout(5):
            await accepting.accept(submit_json(alive, body))
    log.has_leader.set()
    answers = await asyncio.gather(*blocked, return_exceptions=True)
    assert {type(answer) for answer in answers} == {BrokerUnavailable}


class SlowLedger:
    """Claims every key, and then waits for Postgres."""

    def __init__(self) -> None:
        self.waiting = 0
        self.is_back = asyncio.Event()

    async def begin(self, claim: Claim, _lease: timedelta) -> LeasedEntry:
        entry = LedgerEntry(claim.body_hash, claim.job_id, claim.accepted_at, is_committed=False)
        return LeasedEntry(entry, claim.accepted_at)

    async def keep_decision(
        self, _key: RequestKey, lease_end: datetime, _decision: bytes, _lease: timedelta
    ) -> datetime:
        self.waiting += 1
        await self.is_back.wait()
        return lease_end

    async def release(self, key: RequestKey, lease_end: datetime) -> None: ...

    async def forget(self, key: RequestKey, lease_end: datetime) -> None: ...

    async def complete(self, key: RequestKey, job_id: UUID, answer: bytes) -> None: ...

    async def delete_old(self, _retention: timedelta, _limit: int) -> int:
        return 0


async def test_imports_with_a_key_that_wait_for_postgres_do_not_delay_imports_without_one() -> None:
    settings = IngestSettings(imports_at_once=2)
    imports = ImportService(
        AcceptingLog(),
        AdmissionControl(settings),
        ImportQueue.from_settings(settings),
        new_reader(),
        keep_uploads=False,
    )
    ledger, workspace = SlowLedger(), uuid4()
    keyed = KeyedImportService(imports, cast("LeaseLedger", ledger))
    submission = submit_json(workspace, json.dumps([submitted_row()]).encode())
    waiting = [
        asyncio.create_task(
            keyed.accept(submission, RequestKey(workspace, str(number), Channel.HTTP))
        )
        for number in range(10)
    ]
    await eventually(lambda: ledger.waiting == 10)  # more than imports_at_once
    async with asyncio.timeout(5):
        await imports.accept(submission)
    ledger.is_back.set()
    assert len({accepted.event.job_id for accepted in await asyncio.gather(*waiting)}) == 10
