"""Measures how long imports of one ingest replica wait when the other replica is killed.

python -m tests.tools.chaos.pause runs two replicas of ingest on real servers. One gets a flood of
imports and is killed repeatedly with SIGKILL. The other accepts small imports one after the other.
It prints how long these took to settle around each kill and otherwise.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from random import Random
from uuid import uuid4

import httpx

from deploy.administration import NewWorkspace
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, deployed, is_ready
from tests.support.infrastructure import fresh_database, fresh_topics, running_servers

FLOOD = 6
"""The number of clients that flood the killed replica."""
AFTER_SECONDS = 14
"""The seconds for which imports are measured after a kill."""
TIMEOUT_SECONDS = 30


class SmallImports:
    """Sends small imports through the surviving replica and measures their time to settle."""

    def __init__(self, pinflow: Deployment, workspace: NewWorkspace) -> None:
        self._pinflow = pinflow
        self._workspace = workspace
        self.settled: list[tuple[float, float]] = []
        """The time at which each was sent, and the seconds until it had settled."""

    async def run(self) -> None:
        """Sends imports until it is canceled."""
        headers = {"X-API-Key": self._workspace.api_key}
        async with (
            httpx.AsyncClient(headers=headers, timeout=40, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            while True:
                group.create_task(self._import(client))
                await asyncio.sleep(0.05)

    async def _import(self, client: httpx.AsyncClient) -> None:
        started = time.monotonic()
        url = self._pinflow.service_url("ingest-1")
        answer = await client.post(
            f"{url}/v1/pins/imports/json", json=rows_for(self._workspace, 3, prefix=uuid4().hex)
        )
        answer.raise_for_status()
        job = f"{self._pinflow.base_url}/v1/pins/imports/{answer.json()['id']}"
        while time.monotonic() - started < TIMEOUT_SECONDS:
            poll = await client.get(job, headers={"Prefer": "wait=30"})
            if poll.status_code == HTTPStatus.OK and poll.json()["completed_at"]:
                break
        self.settled.append((started, time.monotonic() - started))


@asynccontextmanager
async def flooding(pinflow: Deployment, workspace: NewWorkspace) -> AsyncIterator[None]:
    """Floods the first replica with imports, whose results do not matter."""

    async def flood(client: httpx.AsyncClient) -> None:
        while True:
            rows = rows_for(workspace, 500, prefix=uuid4().hex)
            try:
                await client.post(
                    f"{pinflow.service_url('ingest')}/v1/pins/imports/json", json=rows
                )
            except httpx.TransportError:
                await asyncio.sleep(0.05)

    async with httpx.AsyncClient(
        headers={"X-API-Key": workspace.api_key}, timeout=40, trust_env=False
    ) as client:
        tasks = [asyncio.create_task(flood(client)) for _ in range(FLOOD)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def measure(pinflow: Deployment, database_url: str, kills: int, random: Random) -> None:
    """Kills the first replica `kills` times and prints how long the other's imports took."""
    small_imports = SmallImports(
        pinflow, await asyncio.to_thread(new_workspace, database_url, "Small imports")
    )
    flooding_workspace = await asyncio.to_thread(new_workspace, database_url, "Flood")
    measuring = asyncio.create_task(small_imports.run())
    pauses: list[float] = []
    usual: list[float] = []
    for number in range(1, kills + 1):
        async with flooding(pinflow, flooding_workspace):
            await asyncio.sleep(1 + random.random())
            killed = time.monotonic()
            pinflow.programs["ingest"].kill()
        await asyncio.sleep(AFTER_SECONDS)
        usual += [
            seconds
            for started, seconds in small_imports.settled
            if started > killed + AFTER_SECONDS - 3
        ]
        around = [
            seconds
            for started, seconds in small_imports.settled
            if killed - 1 < started < killed + AFTER_SECONDS - 3
        ]
        pauses.append(max(around))
        print(f"kill {number}: longest {pauses[-1]:.2f} s of {len(around)} imports", flush=True)
        small_imports.settled.clear()
        pinflow.restart("ingest")
        await asyncio.to_thread(
            pinflow.programs["ingest"].wait_until, lambda: is_ready(pinflow.service_url("ingest"))
        )
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
    print(
        f"longest of each kill: median {statistics.median(pauses):.2f} s, longest "
        f"{max(pauses):.2f} s"
    )
    print(
        f"without a kill: median {statistics.median(usual):.3f} s, longest {max(usual):.2f} s of "
        f"{len(usual)} imports"
    )


def main(kills: int, seed: int) -> None:
    """Starts its own servers and services and runs the measurement."""
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-pause-") as directory,
        running_servers(Path(directory)) as own,
        fresh_topics(own.kafka_bootstrap_servers) as prefix,
        fresh_database(own.database_url) as database_url,
        deployed(
            Path(directory),
            2,
            kafka=own.kafka_bootstrap_servers,
            database_url=database_url,
            topic_prefix=prefix,
        ) as pinflow,
    ):
        asyncio.run(measure(pinflow, database_url, kills, Random(seed)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="number of kills; default: 10")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random times of the kills")
    arguments = parser.parse_args()
    main(arguments.kills, arguments.seed)
