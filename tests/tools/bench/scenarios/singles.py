"""One request, one answer: single pins, and questions asked while imports come.

An open loop: latencies count from the due time.
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
from tests.tools.bench.bodies import TAG, marked, new_mark
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import latencies
from tests.tools.bench.scenarios.bench import Bench, costs
from tests.tools.bench.sources import open_client

CLIENTS = 8
QUESTIONS_PER_SECOND = 20.0
EXAMPLES = 10
"""Imports of the workspace that asks."""
Ask = Callable[[], Awaitable[httpx.Response]]


class Latencies:
    """Of one kind of request, in seconds."""

    def __init__(self) -> None:
        self.seconds = array("d")

    async def ask(self, ask: Ask, due: float) -> None:
        (await ask()).raise_for_status()
        self.seconds.append(time.perf_counter() - due)


def pins(bench: Bench) -> Figures:
    """`POST /v1/pins`: as many as eight clients get through, then half of that in an open loop."""
    (workspace,) = bench.installation.new_workspaces(1)
    (row,) = rows_for(workspace, 1, prefix=TAG.decode())
    body, headers = (
        orjson.dumps(row),
        {"X-API-Key": workspace.api_key, "Content-Type": "application/json"},
    )

    def post(http: httpx.AsyncClient) -> Ask:
        return lambda: http.post("/v1/pins", content=marked(body, new_mark()))

    async def fastest(found: Latencies, seconds: float) -> float:
        async with open_client(bench.installation.base_url, headers=headers) as http:
            return await _saturate(found, post(http), seconds)

    async def paced(found: Latencies, seconds: float, rate: float) -> float:
        async with open_client(bench.installation.base_url, headers=headers) as http:
            return await pace([(found, post(http))], seconds, rate)

    most, half, before = Latencies(), Latencies(), bench.look()
    took = uvloop.run(fastest(most, bench.lengths.short / 2))
    figures = costs(before, bench.look(), len(most.seconds), took)
    uvloop.run(paced(half, bench.lengths.short / 2, figures["rows_per_second"] / 2))
    return {
        **figures,
        "answered_ms": latencies(most.seconds),
        "answered_at_half_load_ms": latencies(half.seconds),
    }


def queries(bench: Bench) -> Figures:
    """Lists, jobs with their results, and pins, asked for in turn while another workspace's imports
    come at half of what is possible.
    """
    (asked,) = bench.installation.new_workspaces(1)
    rate, load, examples = bench.imports_per_second() / 2, bench.new_load(), bench.new_load([asked])
    kinds = {
        name: Latencies() for name in ("list_imports", "import_with_results", "list_pins", "pin")
    }

    async def both() -> float:
        async with open_client(
            bench.installation.base_url, headers={"X-API-Key": asked.api_key}
        ) as http:
            asks = await _questions(http)
            pairs = list(zip(kinds.values(), asks, strict=True))
            seconds = bench.lengths.short
            took, _ = await asyncio.gather(
                load.pace(seconds, rate), pace(pairs, seconds, QUESTIONS_PER_SECOND)
            )
            return took

    uvloop.run(examples.fill(EXAMPLES, CLIENTS))
    uvloop.run(examples.drain([]))
    figures = bench.measured(load, both())
    return {
        **figures,
        "answered_ms": {name: latencies(found.seconds) for name, found in kinds.items()},
    }


async def _questions(http: httpx.AsyncClient) -> list[Ask]:
    """Of each kind one, about any of the examples."""
    rng = random.Random(7)
    jobs = [job["id"] for job in (await http.get("/v1/pins/imports")).json()]
    some_pins = [pin["id"] for pin in (await http.get("/v1/pins")).json()]
    return [
        lambda: http.get("/v1/pins/imports"),
        lambda: http.get(f"/v1/pins/imports/{rng.choice(jobs)}"),
        lambda: http.get("/v1/pins"),
        lambda: http.get(f"/v1/pins/{rng.choice(some_pins)}"),
    ]


async def _saturate(found: Latencies, ask: Ask, seconds: float) -> float:
    started = time.perf_counter()

    async def one_after_the_other() -> None:
        while (now := time.perf_counter()) < started + seconds:
            await found.ask(ask, now)

    await asyncio.gather(*(one_after_the_other() for _ in range(CLIENTS)))
    return time.perf_counter() - started


async def pace(asks: Sequence[tuple[Latencies, Ask]], seconds: float, per_second: float) -> float:
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(max(len(asks), int(seconds * per_second))):
            due = started + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            found, ask = asks[number % len(asks)]
            group.create_task(found.ask(ask, due))
    return time.perf_counter() - started
