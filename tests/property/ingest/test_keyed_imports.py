"""Imports with an idempotency key on the real ledger: one job a key, in any interleaving.

Several processes attempt the same keys. Each stops before every step until the test lets it go on,
so another process can act between any two steps. Processes crash, answers are lost, leases end.
"""

import asyncio
import json
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import update

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.queue import ImportQueue
from services.ingest.config import IngestSettings
from services.ingest.keyed_imports import KeyedImportService
from services.ingest.ledger import Channel, RequestKey
from services.ingest.model import AcceptedImport
from services.ingest.records import ImportBatch
from services.ingest.repository import PostgresRequestLedger
from services.ingest.service import ImportService
from services.ingest.submissions import submit_json
from services.ingest.tables import requests
from shared.contract.errors import (
    AcceptanceUnknown,
    ApiError,
    BrokerUnavailable,
    DatabaseUnavailable,
    ErrorCode,
    Unavailable,
)
from shared.contract.events import ImportAccepted
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.ids import Ids
from tests.property.profiles import examples
from tests.support.factories import submitted_row
from tests.support.import_batches import read_import
from tests.support.imports import new_reader

T = TypeVar("T")
KEY = "ä'\\\""
BODIES = tuple(
    json.dumps(rows).encode()
    for rows in ([submitted_row(idempotency_key="k")], [submitted_row(idempotency_key="k"), {}])
)
FAULTS = ("fails before", "fails after")
"""A step fails before or after it has taken effect."""


class Kafka:
    """The batches that were appended."""

    def __init__(self) -> None:
        self.appended: list[ImportBatch] = []


class Process:
    """An attempt at a key in a process of its own. It is the process's ledger and its Kafka."""

    def __init__(
        self, ledger: PostgresRequestLedger, kafka: Kafka, workspace_id: UUID, body: int
    ) -> None:
        self.body = body
        self.step: str | None = None
        self._ledger, self._kafka = ledger, kafka
        self._reached, self._permit = asyncio.Event(), asyncio.Queue[str | None]()
        settings = IngestSettings()
        service = KeyedImportService(
            ImportService(
                self,
                AdmissionControl(settings),
                ImportQueue.from_settings(settings),
                new_reader(),
                keep_uploads=False,
            ),
            self,
        )
        self.task: asyncio.Task[AcceptedImport] = asyncio.create_task(
            service.accept(
                submit_json(workspace_id, BODIES[body]),
                RequestKey(workspace_id, KEY, Channel.HTTP),
            )
        )

    async def advance(self, fault: str | None = None) -> None:
        """Lets the process take its step, and returns when it stands before the next one."""
        self._reached.clear()
        if self.step is not None:
            self.step = None
            self._permit.put_nowait(fault)
        reached = asyncio.create_task(self._reached.wait())
        await asyncio.wait({self.task, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _take(self, step: str, work: Coroutine[Any, Any, T]) -> T:
        self.step = step
        self._reached.set()
        try:
            fault = await self._permit.get()
        except asyncio.CancelledError:
            work.close()
            raise
        if fault == "fails before":
            work.close()
            raise self._fail(fault)
        result = await work
        if fault == "fails after":
            raise self._fail(fault)
        return result

    def _fail(self, fault: str) -> Exception:
        return DatabaseUnavailable(fault)

    async def begin(self, *values: Any) -> Any:
        return await self._take("begin", self._ledger.begin(*values))

    async def keep_decision(self, *values: Any) -> Any:
        return await self._take("keep_decision", self._ledger.keep_decision(*values))

    async def release(self, *values: Any) -> None:
        await self._take("release", self._ledger.release(*values))

    async def forget(self, *values: Any) -> None:
        await self._take("forget", self._ledger.forget(*values))

    async def complete(self, *values: Any) -> None:
        await self._take("complete", self._ledger.complete(*values))

    async def delete_old(self, retention: timedelta, limit: int) -> int:
        return await self._ledger.delete_old(retention, limit)

    async def append(self, batch: ImportBatch, _started: float | None = None) -> None:
        try:
            await self._take("append", self._append(batch))
        except DatabaseUnavailable as fault:
            error = AcceptanceUnknown if str(fault) == "fails after" else BrokerUnavailable
            raise error(str(fault)) from None

    async def _append(self, batch: ImportBatch) -> None:
        self._kafka.appended.append(batch)


class KeyMachine(RuleBasedStateMachine):
    def __init__(self, pool: Database, run: Run) -> None:
        super().__init__()
        self._pool, self._run = pool, run
        self._workspace_id = Ids().new()
        self._ledger, self._kafka = PostgresRequestLedger(pool), Kafka()
        self._processes: list[Process] = []
        self._answer: tuple[ImportAccepted, int] | None = None

    @rule(body=st.sampled_from([0, 0, 0, 1]))
    def start(self, body: int) -> None:
        async def begin() -> Process:
            process = Process(self._ledger, self._kafka, self._workspace_id, body)
            await process.advance()
            return process

        self._processes.append(self._run(begin()))

    @precondition(lambda self: self._processes)
    @rule(number=st.integers(0, 9), fault=st.sampled_from([None, None, None, *FAULTS]))
    def advance(self, number: int, fault: str | None) -> None:
        process = self._processes[number % len(self._processes)]
        self._run(process.advance(fault))
        self._check(process)

    @precondition(lambda self: self._processes)
    @rule(number=st.integers(0, 9), fault=st.sampled_from([None, *FAULTS]))
    def finish(self, number: int, fault: str | None) -> None:
        """Lets a process take all of its steps. Only the append may fail."""
        process = self._processes[number % len(self._processes)]
        self._finish(process, fault)

    @precondition(lambda self: self._processes)
    @rule(number=st.integers(0, 9), fault=st.sampled_from([None, *FAULTS]))
    def overtake(self, number: int, fault: str | None) -> None:
        """Lets another process take the lease of a process, and finish."""
        process = self._processes[number % len(self._processes)]
        self._run(self._end_leases())
        self.start(process.body)
        self._finish(self._processes[-1], fault)

    def _finish(self, process: Process, fault: str | None = None) -> None:
        while not process.task.done():
            self._run(process.advance(fault if process.step == "append" else None))
        self._check(process)

    @precondition(lambda self: self._processes)
    @rule(number=st.integers(0, 9))
    def crash(self, number: int) -> None:
        process = self._processes.pop(number % len(self._processes))
        self._run(process.crash())

    @rule()
    def end_leases(self) -> None:
        """Leases end while the processes that have them may still go on."""
        self._run(self._end_leases())

    def _check(self, process: Process) -> None:
        appended = self._kafka.appended
        assert all(batch == appended[0] for batch in appended)  # one job, byte for byte
        if not process.task.done():
            return
        self._processes.remove(process)
        try:
            accepted = process.task.result()
        except (ApiError, Unavailable):
            return
        assert accepted.event == read_import(appended[0])
        self._answer = self._answer or (accepted.event, process.body)
        assert self._answer == (accepted.event, process.body)

    def teardown(self) -> None:
        """After everything, the key can be used, and answers with the job that Kafka has."""
        for process in self._processes:
            self._run(process.crash())
        self._run(self._end_leases())
        appended = list(self._kafka.appended)
        events = [event for body in (0, 1) if (event := self._accept(body))]
        assert len(events) == 1  # the other body is refused
        if appended:
            assert events[0] == read_import(appended[0])

    def _accept(self, body: int) -> ImportAccepted | None:
        async def finish() -> ImportAccepted | None:
            process = Process(self._ledger, self._kafka, self._workspace_id, body)
            while not process.task.done():
                await process.advance()
            try:
                return process.task.result().event
            except ApiError as error:
                if error.code is not ErrorCode.IDEMPOTENCY_KEY_REUSED:
                    raise
                return None

        event: ImportAccepted | None = self._run(finish())
        return event

    async def _end_leases(self) -> None:
        statement = update(requests).where(
            requests.c.workspace_id == self._workspace_id, requests.c.busy_until.is_not(None)
        )
        async with self._pool.transaction() as connection:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await connection.execute(statement.values(busy_until=past))


@pytest.mark.timeout(900)  # Hypothesis shrinks a failure first
def test_invariants_1_and_2_a_key_is_one_job_in_any_interleaving(pool: Database, run: Run) -> None:
    class BoundMachine(KeyMachine):
        def __init__(self) -> None:
            super().__init__(pool, run)

    run_state_machine_as_test(BoundMachine, settings=examples(40))
