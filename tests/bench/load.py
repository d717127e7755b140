"""The load: imports of 500 fresh rows each, and how long they take."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson

from deploy.administration import NewWorkspace
from shared.events import MAX_ROWS
from tests.acceptance.rows import rows_for
from tests.waiting import eventually

TAG = b"0123456789abcdef"
"""Stands in the prepared body where each import's own mark goes."""
POLL_SECONDS = 0.004
WATCH_SECONDS = 0.1
"""How often the settled imports are counted: seldom, as it must not be what is measured."""
SETTLE_SECONDS = 300
PAGE = 200
DEFAULT_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def rows_like_a_shops(workspace: NewWorkspace) -> list[dict[str, Any]]:
    """Each with a product and a picture of its own, new with each import: what could be cached or compressed away must not be."""
    tag = TAG.decode()
    return [
        {
            **row,
            "link_url": f"https://shop.example/lamps/{tag}-{number}?season=autumn",
            "image_url": f"https://cdn.example/{tag}/{number}.jpg",
        }
        for number, row in enumerate(rows_for(workspace, MAX_ROWS, prefix=tag), 1)
    ]


@dataclass
class Load:
    """One workspace's imports against one gateway. Latencies in seconds."""

    base_url: str
    workspace: NewWorkspace
    accepted: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    imports: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self._settled_imports = 0
        self._some_settled = asyncio.Event()
        self._body = orjson.dumps(rows_like_a_shops(self.workspace))

    @asynccontextmanager
    async def client(self, limits: httpx.Limits = DEFAULT_LIMITS) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"X-API-Key": self.workspace.api_key, "Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=60, trust_env=False, limits=limits) as client:
            yield client

    def fresh_body(self) -> bytes:
        """An import of rows that nobody has sent before."""
        return self._body.replace(TAG, uuid4().hex[:16].encode())

    async def saturate(self, seconds: float, concurrency: int, most_unsettled: int) -> float:
        """As fast as `concurrency` clients get their 202s while not more than `most_unsettled` imports wait; then until all has settled.

        Returns the seconds that took. Without the bound a backlog would be measured, and what is left of the machine for it.
        """
        async with self.client() as client:
            started = time.perf_counter()
            watching = asyncio.create_task(self._watch_settled(client))
            await asyncio.gather(*(self._submit_until(client, started + seconds, most_unsettled) for _ in range(concurrency)))
            await self._all_settled(client)
            watching.cancel()
            took = time.perf_counter() - started
            self.settled += await self._job_seconds(client)
            return took

    async def pace(self, seconds: float, imports_per_second: float) -> float:
        """Open loop: each import at its due time, whatever became of the one before. Returns the seconds until all has settled."""
        async with self.client() as client:
            started = time.perf_counter()
            due = [started + number / imports_per_second for number in range(int(seconds * imports_per_second))]
            await asyncio.gather(*(self._submit_at(client, at) for at in due))
            await self._all_settled(client)
            took = time.perf_counter() - started
            self.settled += await self._job_seconds(client)
            return took

    async def one_by_one(self, count: int) -> None:
        """Idle latency: one import at a time, with irregular gaps; from submission to its end as a client sees it."""
        rng = random.Random(7)
        async with self.client() as client:
            for _ in range(count):
                await asyncio.sleep(rng.uniform(0.1, 0.5))
                await self._submit_and_follow(client)

    async def _submit_and_follow(self, client: httpx.AsyncClient) -> None:
        started = time.perf_counter()
        job_id = await self._submit(client, started)
        while True:
            newest = (await client.get("/v1/pins/imports?limit=1")).json()  # a list has no results: the cheapest look there is
            if newest and newest[0]["id"] == job_id and newest[0]["completed_at"] is not None:
                self.settled.append(time.perf_counter() - started)
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _submit_until(self, client: httpx.AsyncClient, end: float, most_unsettled: int) -> None:
        while (now := time.perf_counter()) < end:
            if self.imports - self._settled_imports < most_unsettled:
                await self._submit(client, now)
            else:
                self._some_settled.clear()
                await self._some_settled.wait()

    async def _watch_settled(self, client: httpx.AsyncClient) -> None:
        while True:
            self._settled_imports = await self._count_settled(client)
            self._some_settled.set()
            await asyncio.sleep(WATCH_SECONDS)

    async def _submit_at(self, client: httpx.AsyncClient, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await self._submit(client, due)

    async def _submit(self, client: httpx.AsyncClient, since: float) -> str | None:
        answer = await client.post("/v1/pins/imports/json", content=self.fresh_body())
        if answer.status_code != httpx.codes.ACCEPTED:
            self.refused += 1
            return None
        self.accepted.append(time.perf_counter() - since)
        self.imports += 1
        return str(answer.json()["id"])

    async def _all_settled(self, client: httpx.AsyncClient) -> None:
        async def settled() -> bool:
            return await self._count_settled(client) >= self.imports

        await eventually(settled, seconds=SETTLE_SECONDS, every=WATCH_SECONDS)

    async def _job_seconds(self, client: httpx.AsyncClient) -> list[float]:
        """From each job's acceptance to its end, as the API tells."""
        found: list[float] = []
        while page := (await client.get(f"/v1/pins/imports?limit={PAGE}&offset={len(found)}")).json():
            found += [_seconds(job["completed_at"]) - _seconds(job["created_at"]) for job in page]
        return found

    async def _count_settled(self, client: httpx.AsyncClient) -> int:
        answer = await client.get("/v1/pins/imports?limit=1&status=completed")
        return int(answer.headers["x-total-count"])
