"""Measures the database alone: the statements of the publisher's store and of the fold.

The services' own repositories send them, in batches of the same size.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import uvloop
from pydantic import SecretStr

from services.publisher.rows.repository import RowRepository
from services.publisher.rows.snapshot import KeyedRow
from services.status.config import StatusSettings
from services.status.folding import Foldable, group_by_job
from services.status.repository import JobRepository
from shared.contract.events import MAX_ROWS
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.support.infrastructure import fresh_database, with_role
from tests.tools.bench.figures import Figures
from tests.tools.bench.limits import pipeline_steps
from tests.tools.bench.limits.inputs import LimitInputs
from tests.tools.bench.limits.processes import Meter, run_in_processes

WARM_UP_SECONDS = 1.0
SETTLING_TASKS = 2
"""Members of the publisher's group in a process."""
MAX_QUEUED_EVENTS = 50
"""Bound of the queue between settling and folding. Both must process the same rows."""


@dataclass(frozen=True)
class _DatabaseInputs:
    url: str
    pids: dict[str, int]
    seconds: float
    rows_at_once: int
    records_at_once: int


def measure_database(limits: LimitInputs) -> Figures:
    with fresh_database(limits.servers.owner_url) as url:
        pids = {"postgres": limits.servers.pids["postgres"]}
        inputs = _DatabaseInputs(
            url, pids, limits.lengths.limit_seconds, limits.rows_at_once, limits.records_at_once
        )
        (figures,) = run_in_processes(_measure, inputs)
    return {
        **figures,
        "rows_at_once": inputs.rows_at_once,
        "records_at_once": inputs.records_at_once,
    }


def _measure(inputs: _DatabaseInputs) -> Figures:
    return uvloop.run(_drive(inputs))


async def _drive(inputs: _DatabaseInputs) -> Figures:
    publisher, status = (
        Database.from_settings(
            DatabaseSettings(database_url=SecretStr(with_role(inputs.url, role))),
            application="bench",
            connections=4,
        )
        for role in ("pinflow_publisher", "pinflow_status")
    )
    meter = Meter(inputs.pids)
    work = _Work(RowRepository(publisher), JobRepository(status), inputs, meter)
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in (
                *(work.settle() for _ in range(SETTLING_TASKS)),
                work.fold(),
                work.announce(),
            ):
                group.create_task(coroutine)
            await asyncio.sleep(min(WARM_UP_SECONDS, inputs.seconds))
            with meter.measuring() as figures:
                await asyncio.sleep(inputs.seconds)
                await meter.counted.wait()
            work.ended.set()
    finally:
        await publisher.dispose()
        await status.dispose()
    return figures


class _Work:
    def __init__(
        self, store: RowRepository, jobs: JobRepository, inputs: _DatabaseInputs, meter: Meter
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._imports_at_once = max(1, round(inputs.rows_at_once / MAX_ROWS))
        self._records_at_once = inputs.records_at_once
        self._meter = meter
        self._events: asyncio.Queue[Foldable | None] = asyncio.Queue(MAX_QUEUED_EVENTS)
        self._running_settling_tasks = SETTLING_TASKS
        self.ended = asyncio.Event()
        """Ends the tasks without canceling: psycopg prints errors if a pipeline is interrupted."""

    async def settle(self) -> None:
        while not self.ended.is_set():
            with self._meter.uncounted():
                rows, events = self._prepare_batch()
            async with self._store.transaction(Advance()) as transaction:
                await transaction.publish(rows, rows)
            self._meter.count(len(rows))
            for event in events:
                await self._events.put(event)
        await self._events.put(None)

    def _prepare_batch(self) -> tuple[list[KeyedRow], list[Foldable]]:
        imports = [
            pipeline_steps.build_import(pipeline_steps.BODY.build_copy())
            for _ in range(self._imports_at_once)
        ]
        rows = pipeline_steps.decode_rows(imports)
        publisher_records = pipeline_steps.build_publisher_records(
            pipeline_steps.decide_new_rows(rows)
        )
        return rows, pipeline_steps.decode_status_events(imports, publisher_records.outcomes)

    async def fold(self) -> None:
        while events := await self._next_events():
            with self._meter.uncounted():
                grouped = group_by_job(events)
            await self._jobs.fold(grouped, Advance(), moves=False)

    async def _next_events(self) -> list[Foldable]:
        """Returns one fold's events. At the end it returns fewer, then none."""
        events: list[Foldable] = []
        while self._running_settling_tasks and len(events) < self._records_at_once:
            if (event := await self._events.get()) is None:
                self._running_settling_tasks -= 1
            else:
                events.append(event)
        return events

    async def announce(self) -> None:
        """Repeats the announcer's query, so that its cost is included."""
        limit: int = StatusSettings.model_fields["announce_limit"].default
        pause: float = StatusSettings.model_fields["announce_interval_seconds"].default
        while not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.ended.wait()
            async with self._jobs.lock_unannounced(limit):
                pass  # nothing is announced: only the query is measured
