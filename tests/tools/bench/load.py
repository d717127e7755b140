"""Submits a load of imports, measures their latencies and checks the outcome of every row.

The imports come from one or several workspaces.
"""

import asyncio
import math
import random
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import cycle
from typing import Any

import httpx

from tests.support.waiting import eventually
from tests.tools.bench.bodies import Outcomes
from tests.tools.bench.closed_loop import submit_while
from tests.tools.bench.sources import Source, open_client

IDLE_GAP_SECONDS = (0.2, 2.0)
"""Bounds of the random gap between idle imports. It is irregular, so that imports do not align with
polling intervals.
"""
POLL_SECONDS = 0.004
COUNT_INTERVAL_SECONDS = 0.1
"""Interval between counts of settled imports. Counting more often would distort the measurement."""
WORKSPACES_PER_COUNT = 2
"""Number of workspaces whose imports are counted each time, in rotation."""
SETTLE_SECONDS = 300
PAGE_SIZE = 200


class Load:
    """Submits imports of `sources` in rotation to one gateway.

    Latencies are in seconds, from the time at which an import was due.
    """

    def __init__(self, base_url: str, sources: Sequence[Source]) -> None:
        self._base_url = base_url
        self._sources = sources
        self._source_numbers = cycle(range(len(sources)))
        # By the import's id; seconds of the system clock, because jobs have times of that clock
        self._due_times: list[dict[str, float]] = [{} for _ in sources]
        self._clock_offset = time.time() - time.perf_counter()
        self._settled = [0] * len(sources)
        self._some_settled = asyncio.Event()
        # Eight bytes each: all latencies are kept, so that percentiles are exact
        self.accepted_latencies = array("d")
        self.settled_latencies = array("d")
        self.refused = 0
        self.outcomes = Outcomes(0)

    @property
    def imports(self) -> int:
        return sum(len(due_times) for due_times in self._due_times)

    @property
    def rows(self) -> int:
        return sum(
            len(due_times) * sum(source.expected_outcomes)
            for due_times, source in zip(self._due_times, self._sources, strict=True)
        )

    @property
    def settled_imports(self) -> int:
        """Number of settled imports at the last count."""
        return sum(self._settled)

    async def saturate(
        self,
        seconds: float,
        concurrency: int,
        max_unsettled_imports: int,
        max_imports: float = math.inf,
    ) -> float:
        """Submits with `concurrency` clients while at most `max_unsettled_imports` are unsettled.

        Stops after `seconds` or about `max_imports`, waits until all have settled, and returns the
        whole duration in seconds. Without the limit a backlog would grow and take CPU from the
        measured work.
        """
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            counting = asyncio.create_task(self._count_periodically(http))
            await asyncio.gather(
                *(
                    self._submit_until(http, started + seconds, max_unsettled_imports, max_imports)
                    for _ in range(concurrency)
                )
            )
            return await self._finish(http, started, counting)

    async def send_at_rate(self, seconds: float, imports_per_second: float) -> float:
        """Submits each import at its due time, without waiting for the one before (open loop).

        Returns the seconds until all have settled.
        """
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(max(1, int(seconds * imports_per_second))):
                    due = started + number / imports_per_second
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    group.create_task(self._submit(http, due))
            return await self._finish(http, started)

    async def send_burst(self, count: int) -> float:
        """Submits all imports at once. Returns the seconds until all have settled."""
        async with open_client(self._base_url, httpx.Limits(max_connections=count)) as http:
            started = time.perf_counter()
            await asyncio.gather(*(self._submit(http, started) for _ in range(count)))
            return await self._finish(http, started)

    async def send_one_by_one(self, count: int) -> float:
        """Measures idle latency: one import at a time, with irregular gaps.

        A latency lasts from the submission until a polling client sees the end of the job.
        """
        rng = random.Random(7)
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            for _ in range(count):
                await asyncio.sleep(rng.uniform(*IDLE_GAP_SECONDS))
                await self._submit_and_follow(http)
            self.outcomes, _ = await self._read_results(http)
            return time.perf_counter() - started

    async def fill(self, imports: int, concurrency: int) -> float:
        """Submits `imports` as fast as they are accepted, without waiting until they settle."""
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            remaining = iter(range(imports))

            async def submit_some() -> None:
                for _ in remaining:
                    await self._submit(http, time.perf_counter())

            await asyncio.gather(*(submit_some() for _ in range(concurrency)))
            return time.perf_counter() - started

    async def drain(self, progress: list[tuple[float, int]]) -> float:
        """Waits until all imports have settled, and returns the duration in seconds.

        Adds to `progress` the seconds since the call and the number of settled imports.
        """
        async with open_client(self._base_url) as http:
            started = time.perf_counter()

            async def settled() -> bool:
                settled_count = await self._count_all(http)
                progress.append((time.perf_counter() - started, settled_count))
                return settled_count >= self.imports

            await eventually(settled, seconds=SETTLE_SECONDS, every=COUNT_INTERVAL_SECONDS)
            return await self._finish(http, started)

    async def _finish(
        self, http: httpx.AsyncClient, started: float, counting: "asyncio.Task[None] | None" = None
    ) -> float:
        async def settled() -> bool:
            return await self._count_all(http) >= self.imports

        await eventually(settled, seconds=SETTLE_SECONDS, every=COUNT_INTERVAL_SECONDS)
        elapsed = time.perf_counter() - started
        if counting is not None:
            counting.cancel()
        self.outcomes, latencies = await self._read_results(http)
        self.settled_latencies.extend(latencies)
        return elapsed

    async def _submit_and_follow(self, http: httpx.AsyncClient) -> None:
        started, source = time.perf_counter(), self._sources[0]
        import_id = await self._submit(http, started)
        assert import_id is not None, "an import was refused although no other was sent"
        while True:
            # The list is the cheapest request: it reads no results
            newest = (await self._list_imports(http, source, limit=1)).json()
            if (
                newest
                and newest[0][source.id_field] == import_id
                and newest[0]["completed_at"] is not None
            ):
                self.settled_latencies.append(time.perf_counter() - started)
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _submit_until(
        self, http: httpx.AsyncClient, end: float, max_unsettled_imports: int, max_imports: float
    ) -> None:
        await submit_while(
            lambda: time.perf_counter() < end and self.imports < max_imports,
            lambda: self.imports - self.settled_imports < max_unsettled_imports,
            lambda: self._submit(http, time.perf_counter()),
            self._some_settled,
        )

    async def _submit(self, http: httpx.AsyncClient, due: float) -> str | None:
        source_number = next(self._source_numbers)
        import_id = await self._sources[source_number].submit(http)
        if import_id is None:
            self.refused += 1
            return None
        self.accepted_latencies.append(time.perf_counter() - due)
        self._due_times[source_number][import_id] = self._clock_offset + due
        return import_id

    async def _count_periodically(self, http: httpx.AsyncClient) -> None:
        source_numbers = cycle(range(len(self._sources)))
        while True:
            for _ in range(min(WORKSPACES_PER_COUNT, len(self._sources))):
                await self._count(http, next(source_numbers))
            self._some_settled.set()
            await asyncio.sleep(COUNT_INTERVAL_SECONDS)

    async def _count_all(self, http: httpx.AsyncClient) -> int:
        """Counts settled imports of sources that had unsettled ones at the last count."""
        for source_number, due_times in enumerate(self._due_times):
            if self._settled[source_number] < len(due_times):
                await self._count(http, source_number)
        return self.settled_imports

    async def _count(self, http: httpx.AsyncClient, source_number: int) -> None:
        source = self._sources[source_number]
        final_status = "completed_with_errors" if source.expected_outcomes.failed else "completed"
        self._settled[source_number] = int(
            (await self._list_imports(http, source, limit=1, status=final_status)).headers[
                "x-total-count"
            ]
        )

    async def _read_results(self, http: httpx.AsyncClient) -> tuple[Outcomes, list[float]]:
        """Reads the outcomes of all rows, and each import's seconds from its due time to its end.

        Both times are from the clock of one machine. A job ends when the last fold's transaction
        begins, some milliseconds before a client sees it.
        """
        outcomes: Counter[str] = Counter()
        seconds: list[float] = []
        for source, due_times in zip(self._sources, self._due_times, strict=True):
            offset = 0
            while page := (
                await self._list_imports(http, source, limit=PAGE_SIZE, offset=offset)
            ).json():
                offset += len(page)
                for job in page:
                    if (due_time := due_times.get(job[source.id_field])) is not None:
                        seconds.append(_parse_timestamp(job["completed_at"]) - due_time)
                        outcomes.update({name: job[f"{name}_rows"] for name in Outcomes._fields})
        return Outcomes(*(outcomes[name] for name in Outcomes._fields)), seconds

    async def _list_imports(
        self, http: httpx.AsyncClient, source: Source, **query: Any
    ) -> httpx.Response:
        response = await http.get(
            "/v1/pins/imports", params=query, headers={"X-API-Key": source.workspace.api_key}
        )
        return response.raise_for_status()

    def require_exact(self) -> None:
        """Checks that every row of every accepted import has its expected outcome.

        A figure of a load that lost rows would be worthless.
        """
        expected = [
            Outcomes(*(len(due_times) * count for count in source.expected_outcomes))
            for due_times, source in zip(self._due_times, self._sources, strict=True)
        ]
        expected_total = Outcomes(*(sum(counts) for counts in zip(*expected, strict=True)))
        assert self.outcomes == expected_total, (
            f"outcomes are {self.outcomes}, not {expected_total}"
        )


def _parse_timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
