"""The load: imports from one or many workspaces, when they are due, how long they take, and whether
each row became what it must.
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
from tests.tools.bench.saturation import submit_while
from tests.tools.bench.sources import Source, open_client

GAP_SECONDS = (0.2, 2.0)
"""Between two idle imports: never in step with anything that sleeps and polls."""
POLL_SECONDS = 0.004
WATCH_SECONDS = 0.1
"""How often the settled imports are counted: seldom, as it must not be what is measured."""
WATCHED_AT_ONCE = 2
"""Workspaces whose imports are counted each time, in turn."""
SETTLE_SECONDS = 300
PAGE = 200


class Load:
    """Imports of `sources`, in turn, at one gateway.

    Latencies in seconds, from the moment at which an import was due.
    """

    def __init__(self, base_url: str, sources: Sequence[Source]) -> None:
        self._base_url = base_url
        self._sources = sources
        self._turns = cycle(range(len(sources)))
        self._due: list[dict[str, float]] = [
            {} for _ in sources
        ]  # by what the import is known by, on the clock of the wall
        self._wall = time.time() - time.perf_counter()
        self._settled = [0] * len(sources)
        self._some_settled = asyncio.Event()
        self.accepted = array(
            "d"
        )  # eight bytes each: all of them are kept, so that percentiles are exact
        self.settled = array("d")
        self.refused = 0
        self.outcomes = Outcomes(0)

    @property
    def imports(self) -> int:
        return sum(len(due) for due in self._due)

    @property
    def rows(self) -> int:
        return sum(
            len(due) * sum(source.outcomes)
            for due, source in zip(self._due, self._sources, strict=True)
        )

    @property
    def settled_imports(self) -> int:
        """When last counted."""
        return sum(self._settled)

    async def saturate(
        self, seconds: float, concurrency: int, most_unsettled: int, most: float = math.inf
    ) -> float:
        """As fast as `concurrency` clients get their 202s while not more than `most_unsettled`
        imports wait; then until all has settled.

        `most` imports at most, or a few more.

        Returns the seconds that took. Without the bound a backlog would be measured, and what is
        left of the machine for it.
        """
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            watching = asyncio.create_task(self._watch(http))
            await asyncio.gather(
                *(
                    self._submit_until(http, started + seconds, most_unsettled, most)
                    for _ in range(concurrency)
                )
            )
            return await self._finish(http, started, watching)

    async def pace(self, seconds: float, imports_per_second: float) -> float:
        """Open loop: each import at its due time, whatever became of the one before.

        Returns the seconds until all has settled.
        """
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(max(1, int(seconds * imports_per_second))):
                    due = started + number / imports_per_second
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    group.create_task(self._submit(http, due))
            return await self._finish(http, started)

    async def burst(self, count: int) -> float:
        """All at the same moment."""
        async with open_client(self._base_url, httpx.Limits(max_connections=count)) as http:
            started = time.perf_counter()
            await asyncio.gather(*(self._submit(http, started) for _ in range(count)))
            return await self._finish(http, started)

    async def one_by_one(self, count: int) -> float:
        """Idle latency: one import at a time, with irregular gaps; from submission to its end as a
        client that polls sees it.
        """
        rng = random.Random(7)
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            for _ in range(count):
                await asyncio.sleep(rng.uniform(*GAP_SECONDS))
                await self._submit_and_follow(http)
            self.outcomes, _ = await self._look_back(http)
            return time.perf_counter() - started

    async def fill(self, imports: int, concurrency: int) -> float:
        """So many, as fast as they are accepted, whether they settle or not."""
        async with open_client(self._base_url) as http:
            started = time.perf_counter()
            left = iter(range(imports))

            async def submit_some() -> None:
                for _ in left:
                    await self._submit(http, time.perf_counter())

            await asyncio.gather(*(submit_some() for _ in range(concurrency)))
            return time.perf_counter() - started

    async def drain(self, progress: list[tuple[float, int]]) -> float:
        """Until all has settled, noting how many imports had, by seconds from now.

        Returns the seconds that took.
        """
        async with open_client(self._base_url) as http:
            started = time.perf_counter()

            async def settled() -> bool:
                counted = await self._count_all(http)
                progress.append((time.perf_counter() - started, counted))
                return counted >= self.imports

            await eventually(settled, seconds=SETTLE_SECONDS, every=WATCH_SECONDS)
            return await self._finish(http, started)

    async def _finish(
        self, http: httpx.AsyncClient, started: float, watching: "asyncio.Task[None] | None" = None
    ) -> float:
        async def settled() -> bool:
            return await self._count_all(http) >= self.imports

        await eventually(settled, seconds=SETTLE_SECONDS, every=WATCH_SECONDS)
        took = time.perf_counter() - started
        if watching is not None:
            watching.cancel()
        self.outcomes, latencies = await self._look_back(http)
        self.settled.extend(latencies)
        return took

    async def _submit_and_follow(self, http: httpx.AsyncClient) -> None:
        started, source = time.perf_counter(), self._sources[0]
        name = await self._submit(http, started)
        assert name is not None, "an import alone was refused"
        while True:
            newest = (
                await self._jobs(http, source, limit=1)
            ).json()  # a list has no results: the cheapest look there is
            if (
                newest
                and newest[0][source.named_by] == name
                and newest[0]["completed_at"] is not None
            ):
                self.settled.append(time.perf_counter() - started)
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _submit_until(
        self, http: httpx.AsyncClient, end: float, most_unsettled: int, most: float
    ) -> None:
        await submit_while(
            lambda: time.perf_counter() < end and self.imports < most,
            lambda: self.imports - self.settled_imports < most_unsettled,
            lambda: self._submit(http, time.perf_counter()),
            self._some_settled,
        )

    async def _submit(self, http: httpx.AsyncClient, due: float) -> str | None:
        turn = next(self._turns)
        name = await self._sources[turn].submit(http)
        if name is None:
            self.refused += 1
            return None
        self.accepted.append(time.perf_counter() - due)
        self._due[turn][name] = self._wall + due
        return name

    async def _watch(self, http: httpx.AsyncClient) -> None:
        turns = cycle(range(len(self._sources)))
        while True:
            for _ in range(min(WATCHED_AT_ONCE, len(self._sources))):
                await self._count(http, next(turns))
            self._some_settled.set()
            await asyncio.sleep(WATCH_SECONDS)

    async def _count_all(self, http: httpx.AsyncClient) -> int:
        """Only where some were unsettled when last counted."""
        for turn, due in enumerate(self._due):
            if self._settled[turn] < len(due):
                await self._count(http, turn)
        return self.settled_imports

    async def _count(self, http: httpx.AsyncClient, turn: int) -> None:
        source = self._sources[turn]
        ended = "completed_with_errors" if source.outcomes.failed else "completed"
        self._settled[turn] = int(
            (await self._jobs(http, source, limit=1, status=ended)).headers["x-total-count"]
        )

    async def _look_back(self, http: httpx.AsyncClient) -> tuple[Outcomes, list[float]]:
        """What became of all rows, and how long each import took to its end: from its due time, by
        the clocks of one machine.

        The end is when the last fold's transaction began: some milliseconds less than a client
        would see.
        """
        outcomes: Counter[str] = Counter()
        seconds: list[float] = []
        for source, due in zip(self._sources, self._due, strict=True):
            offset = 0
            while page := (await self._jobs(http, source, limit=PAGE, offset=offset)).json():
                offset += len(page)
                for job in page:
                    if (at := due.get(job[source.named_by])) is not None:
                        seconds.append(_time(job["completed_at"]) - at)
                        outcomes.update({name: job[f"{name}_rows"] for name in Outcomes._fields})
        return Outcomes(*(outcomes[name] for name in Outcomes._fields)), seconds

    async def _jobs(self, http: httpx.AsyncClient, source: Source, **query: Any) -> httpx.Response:
        answer = await http.get(
            "/v1/pins/imports", params=query, headers={"X-API-Key": source.workspace.api_key}
        )
        return answer.raise_for_status()

    def require_exact(self) -> None:
        """Every row of every accepted import has become what it must: a figure that is not exact is
        none.
        """
        expected = [
            Outcomes(*(len(due) * count for count in source.outcomes))
            for due, source in zip(self._due, self._sources, strict=True)
        ]
        wanted = Outcomes(*(sum(counts) for counts in zip(*expected, strict=True)))
        assert self.outcomes == wanted, f"rows became {self.outcomes}, not {wanted}"


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
