"""Scenarios of single requests: single pins, and queries while imports arrive.

The loop is open: latencies count from the time at which a request was due.
"""

import asyncio
import random
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence

import httpx
import orjson
import uvloop

from tests.acceptance.rows import rows_for
from tests.tools.bench.bodies import MARK_PLACEHOLDER, insert_mark, new_mark
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import summarize_latencies
from tests.tools.bench.scenarios.bench import Bench, compute_costs
from tests.tools.bench.sources import open_client

CLIENTS = 8
QUERIES_PER_SECOND = 20.0
EXAMPLE_IMPORTS = 10
"""Imports of the workspace that sends the queries."""
SendRequest = Callable[[], Awaitable[httpx.Response]]


class RequestLatencies:
    """Latencies of one kind of request, in seconds."""

    def __init__(self) -> None:
        self.seconds = array("d")

    async def send(self, send: SendRequest, due: float) -> None:
        (await send()).raise_for_status()
        self.seconds.append(time.perf_counter() - due)


def pins(bench: Bench) -> Figures:
    """Creates single pins (`POST /v1/pins`): with eight clients at full speed, then at half that
    rate.
    """
    (workspace,) = bench.installation.new_workspaces(1)
    (row,) = rows_for(workspace, 1, prefix=MARK_PLACEHOLDER.decode())
    body, headers = (
        orjson.dumps(row),
        {"X-API-Key": workspace.api_key, "Content-Type": "application/json"},
    )

    def post(http: httpx.AsyncClient) -> SendRequest:
        return lambda: http.post("/v1/pins", content=insert_mark(body, new_mark()))

    async def run_at_full_speed(latencies: RequestLatencies, seconds: float) -> float:
        async with open_client(bench.installation.base_url, headers=headers) as http:
            return await _saturate(latencies, post(http), seconds)

    async def run_at_rate(latencies: RequestLatencies, seconds: float, rate: float) -> float:
        async with open_client(bench.installation.base_url, headers=headers) as http:
            return await send_at_rate([(latencies, post(http))], seconds, rate)

    full_speed, half_speed, before = RequestLatencies(), RequestLatencies(), bench.take_snapshot()
    elapsed = uvloop.run(run_at_full_speed(full_speed, bench.lengths.short_seconds / 2))
    figures = compute_costs(before, bench.take_snapshot(), len(full_speed.seconds), elapsed)
    uvloop.run(
        run_at_rate(half_speed, bench.lengths.short_seconds / 2, figures["rows_per_second"] / 2)
    )
    return {
        **figures,
        "answered_ms": summarize_latencies(full_speed.seconds),
        "answered_at_half_load_ms": summarize_latencies(half_speed.seconds),
    }


def queries(bench: Bench) -> Figures:
    """Queries lists, jobs with results, and pins in rotation.

    Meanwhile another workspace submits imports at half of the maximum rate.
    """
    (workspace,) = bench.installation.new_workspaces(1)
    rate, load, examples = (
        bench.imports_per_second() / 2,
        bench.new_load(),
        bench.new_load([workspace]),
    )
    kinds = {
        name: RequestLatencies()
        for name in ("list_imports", "import_with_results", "list_pins", "pin")
    }

    async def run_both() -> float:
        async with open_client(
            bench.installation.base_url, headers={"X-API-Key": workspace.api_key}
        ) as http:
            requests = await _build_queries(http)
            pairs = list(zip(kinds.values(), requests, strict=True))
            seconds = bench.lengths.short_seconds
            elapsed, _ = await asyncio.gather(
                load.send_at_rate(seconds, rate), send_at_rate(pairs, seconds, QUERIES_PER_SECOND)
            )
            return elapsed

    uvloop.run(examples.fill(EXAMPLE_IMPORTS, CLIENTS))
    uvloop.run(examples.drain([]))
    figures = bench.measure_load(load, run_both())
    return {
        **figures,
        "answered_ms": {
            name: summarize_latencies(latencies.seconds) for name, latencies in kinds.items()
        },
    }


async def _build_queries(http: httpx.AsyncClient) -> list[SendRequest]:
    """Builds one query of each kind, about random examples."""
    rng = random.Random(7)
    jobs = [job["id"] for job in (await http.get("/v1/pins/imports")).json()]
    pin_ids = [pin["id"] for pin in (await http.get("/v1/pins")).json()]
    return [
        lambda: http.get("/v1/pins/imports"),
        lambda: http.get(f"/v1/pins/imports/{rng.choice(jobs)}"),
        lambda: http.get("/v1/pins"),
        lambda: http.get(f"/v1/pins/{rng.choice(pin_ids)}"),
    ]


async def _saturate(latencies: RequestLatencies, send: SendRequest, seconds: float) -> float:
    started = time.perf_counter()

    async def run_client() -> None:
        while (now := time.perf_counter()) < started + seconds:
            await latencies.send(send, now)

    await asyncio.gather(*(run_client() for _ in range(CLIENTS)))
    return time.perf_counter() - started


async def send_at_rate(
    requests: Sequence[tuple[RequestLatencies, SendRequest]], seconds: float, per_second: float
) -> float:
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(max(len(requests), int(seconds * per_second))):
            due = started + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            latencies, send = requests[number % len(requests)]
            group.create_task(latencies.send(send, due))
    return time.perf_counter() - started
