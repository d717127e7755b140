"""Floods ingest from one workspace, and measures single imports of another.

The flooding workspace ignores refusals.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from shared.contract.events import MAX_ROWS
from tests.acceptance.rows import rows_for
from tests.support.waiting import eventually
from tests.tools.bench.measure import Sizes, compute_percentiles
from tests.tools.bench.sources import Sender

OTHER_ROWS = 20
"""Rows of an import of the other workspace."""
SAMPLE_SECONDS = 0.5
DRAIN_SECONDS = 240


@dataclass
class Flood:
    """Runs a flood and keeps its measurements, in seconds.

    `sizes` are resident bytes of each process, by seconds since the start.
    """

    flooding_sender: Sender
    other_sender: Sender
    answers: Counter[int] = field(default_factory=Counter)
    """Responses to the flooding workspace, by status code."""
    slowest_refusal: float = 0.0
    other_refused: int = 0
    other_settled: list[float] = field(default_factory=list)
    """Time from the first attempt to the end of the job, as the other client sees it."""
    other_accepted: list[float] = field(default_factory=list)
    sizes: list[tuple[float, Sizes]] = field(default_factory=list)
    unsettled: list[float] = field(default_factory=list)
    """Samples of the number of unsettled rows."""
    accepted_jobs: list[str] = field(default_factory=list)
    drained_seconds: float = 0.0

    async def run(
        self,
        seconds: float,
        clients: int,
        sizes: Callable[[], Sizes],
        unsettled: Callable[[], float],
    ) -> None:
        """Floods for `seconds`. Returns when every accepted import has settled."""
        limits = httpx.Limits(max_connections=clients)
        async with (
            self.flooding_sender.client(limits) as flooding_client,
            self.other_sender.client() as other_client,
        ):
            started = time.perf_counter()
            sampling = asyncio.create_task(self._sample(started, sizes, unsettled))
            await asyncio.gather(
                self._submit_one_by_one(other_client, started + seconds),
                *(
                    self._submit_at_full_speed(flooding_client, started + seconds)
                    for _ in range(clients)
                ),
            )
            ended = time.perf_counter()
            await self._wait_until_settled(flooding_client)
            self.drained_seconds = time.perf_counter() - ended
            sampling.cancel()

    async def _submit_at_full_speed(self, client: httpx.AsyncClient, end: float) -> None:
        while (began := time.perf_counter()) < end:
            response = await client.post(
                "/v1/pins/imports/json", content=self.flooding_sender.build_body()
            )
            self.answers[response.status_code] += 1
            if response.status_code == HTTPStatus.ACCEPTED:
                self.accepted_jobs.append(response.json()["id"])
            else:
                self.slowest_refusal = max(self.slowest_refusal, time.perf_counter() - began)

    async def _submit_one_by_one(self, client: httpx.AsyncClient, end: float) -> None:
        number = 0
        while (began := time.perf_counter()) < end:
            number += 1
            rows = rows_for(self.other_sender.workspace, OTHER_ROWS, prefix=f"single-{number}")
            while (
                response := await client.post("/v1/pins/imports/json", json=rows)
            ).status_code != HTTPStatus.ACCEPTED:
                self.other_refused += 1
                await asyncio.sleep(0.1)
            self.other_accepted.append(time.perf_counter() - began)
            job = response.json()
            while job["completed_at"] is None:
                response = await client.get(
                    f"/v1/pins/imports/{job['id']}", headers={"Prefer": "wait=30"}
                )
                job = response.json() if response.is_success else job
            self.other_settled.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)

    async def _wait_until_settled(self, client: httpx.AsyncClient) -> None:
        async def settled() -> bool:
            response = await client.get("/v1/pins/imports?limit=1&status=completed")
            return int(response.headers["x-total-count"]) >= len(self.accepted_jobs)

        await eventually(settled, seconds=DRAIN_SECONDS, every=0.1)

    async def _sample(
        self, started: float, sizes: Callable[[], Sizes], unsettled: Callable[[], float]
    ) -> None:
        while True:
            self.sizes.append((time.perf_counter() - started, sizes()))
            self.unsettled.append(await asyncio.to_thread(unsettled))
            await asyncio.sleep(SAMPLE_SECONDS)

    def peak_bytes(self, name: str) -> int:
        """Returns a process's largest resident memory."""
        return max(sizes[name] for _, sizes in self.sizes)

    @property
    def accepted_rows(self) -> int:
        return self.answers[HTTPStatus.ACCEPTED] * MAX_ROWS


def summarize_flood(flood: Flood) -> dict[str, Any]:
    """Builds the figures to print. Their names contain the units."""
    names = flood.sizes[0][1].keys()
    return {
        "accepted": flood.answers[HTTPStatus.ACCEPTED],
        "refused": {
            str(status): count
            for status, count in flood.answers.items()
            if status != HTTPStatus.ACCEPTED
        },
        "slowest refusal, ms": round(flood.slowest_refusal * 1000),
        "max unsettled rows": round(max(flood.unsettled)),
        "drained after, s": round(flood.drained_seconds, 1),
        "other workspace": {
            "refused": flood.other_refused,
            "settled": len(flood.other_settled),
        },
        "other: accepted, ms": compute_percentiles(flood.other_accepted),
        "other: settled, ms": compute_percentiles(flood.other_settled),
        "RSS, MiB: start → peak": {
            name: f"{flood.sizes[0][1][name] >> 20} → {flood.peak_bytes(name) >> 20}"
            for name in names
        },
    }


def read_unsettled_rows(ingest_url: str) -> float:
    """Reads the number of unsettled rows from ingest's metrics. Returns 0 if it is missing."""
    lines = httpx.get(f"{ingest_url}/metrics", timeout=10, trust_env=False).text.splitlines()
    return next(
        (float(line.split()[1]) for line in lines if line.startswith("pinflow_unsettled_rows ")),
        0.0,
    )
