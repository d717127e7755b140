"""Measures the delivery to the simulator of Pinterest: fairness, punctuality, estimate, cost.

python -m tests.tools.bench.deliveries [--queued N] [--seconds N] [--estimate N] [--spacing S]
    [--only due,fairness,estimate]

Everything runs on this machine: the servers, the services, one delivery process and the simulator.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import psycopg
from psycopg.rows import dict_row

from deploy.administration import NewWorkspace
from tests.tools.chaos.deliveries.arena import DeliveryArena, delivery_arena

NAMES = ("due", "fairness", "estimate")
ACCOUNTS = 50
DUE_PER_SECOND = 50
FAIR_ROUNDS = 5
IMPORT_ROWS = 500
WARM_SECONDS = 30.0
"""The time after which the estimate is read: it follows the speed of the last attempts."""
LIMIT_SECONDS = 3600.0

QUEUE_PINS = """
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, state, idempotency_key,
        board_id, title, link_url, image_url, delivery
    )
    select gen_random_uuid(), %(workspace)s, %(account)s, gen_random_uuid(),
        now() + n * interval '1 microsecond', 'queued', %(name)s || n, %(board)s,
        'Pin ' || %(name)s || n, 'https://shop.example/' || %(name)s || n,
        'https://images.example/1.jpg', 'pinterest'
    from generate_series(1, %(count)s) as n
"""
DUE = """
    select extract(epoch from a.started_at - p.run_at) as sent,
        extract(epoch from p.published_at - p.run_at) as published
    from publisher.pins p join publisher.delivery_attempts a using (pin_id)
    where p.idempotency_key like 'due-%%' and a.number = 1 and p.state = 'published'
"""


class Bench:
    """Measures one thing after the other on a running arena."""

    def __init__(self, running: DeliveryArena) -> None:
        self._running = running
        self._workspaces = running.workspaces
        (self._process,) = [psutil.Process(program.process.pid) for program in running.deliveries]

    async def measure_due(self, seconds: int) -> dict[str, Any]:
        """Schedules DUE_PER_SECOND pins for each second, over all accounts."""
        start = datetime.now(UTC) + timedelta(seconds=30)
        accounts = self._list_accounts()
        rows: dict[int, list[dict[str, Any]]] = {}
        for number in range(seconds * DUE_PER_SECOND):
            workspace, account = accounts[number % len(accounts)]
            run_at = start + timedelta(seconds=number // DUE_PER_SECOND)
            rows.setdefault(workspace, []).append(
                _build_row(account, f"due-{number}", run_at=run_at.isoformat())
            )
        for workspace, planned in rows.items():
            await self._import(self._workspaces[workspace], planned)
        await asyncio.sleep(max(0.0, (start - datetime.now(UTC)).total_seconds()))
        cpu, began = self._cpu_seconds(), time.monotonic()
        await self._wait_for("due-", seconds * DUE_PER_SECOND)
        used, lasted = self._cpu_seconds() - cpu, time.monotonic() - began
        delays = await self._fetch(DUE, {})
        return {
            "due_per_second": DUE_PER_SECOND,
            "pins": len(delays),
            "due_to_sent_seconds": _percentiles([float(row["sent"]) for row in delays]),
            "due_to_published_seconds": _percentiles([float(row["published"]) for row in delays]),
            "cpu_ms_per_pin": round(1000 * used / len(delays), 2),
            "cpu_share": round(used / lasted, 2),
            "memory_mib": self._memory_mib(),
        }

    async def measure_fairness(self, queued: int) -> dict[str, Any]:
        """Queues a mass of pins of one account, then single pins of another."""
        await self._queue(0, queued, "mass-")
        _, other = self._list_accounts()[-1]
        workspace, delays = self._workspaces[-1], []
        for number in range(FAIR_ROUNDS):
            began, key = time.monotonic(), f"single-{number}"
            await self._publish(workspace, _build_row(other, key))
            await self._wait_for(key, 1, every=0.02)
            delays.append(time.monotonic() - began)
        await self._forget("mass-")
        return {
            "queued_of_another_account": queued,
            "single_pin_seconds": [round(delay, 2) for delay in delays],
            "memory_mib": self._memory_mib(),
        }

    async def measure_estimate(self, count: int) -> dict[str, Any]:
        """Compares the estimated end of a queue with its real end."""
        began = time.time()
        await self._queue(1, count, "estimate-")
        workspace, account = self._list_accounts()[1]
        await asyncio.sleep(WARM_SECONDS)
        asked_at = time.time()
        estimated = await self._read_estimate(self._workspaces[workspace], account.id)
        await self._wait_for("estimate-", count)
        ended = time.time()
        return {
            "queued": count,
            "estimated_seconds": round(estimated - asked_at, 1),
            "real_seconds": round(ended - asked_at, 1),
            "error_percent": round(100 * (estimated - ended) / (ended - asked_at), 1),
            "whole_seconds": round(ended - began, 1),
        }

    def _list_accounts(self) -> list[tuple[int, Any]]:
        return [
            (number, account)
            for number, workspace in enumerate(self._workspaces)
            for account in workspace.accounts
        ]

    async def _queue(self, account_number: int, count: int, name: str) -> None:
        workspace, account = self._list_accounts()[account_number]
        values = {
            "workspace": self._workspaces[workspace].id,
            "account": account.id,
            "board": account.boards[0],
            "name": name,
            "count": count,
        }
        async with await self._connect() as connection:
            await connection.execute(QUEUE_PINS.encode(), values)
            if count > IMPORT_ROWS:
                await connection.execute(b"analyze publisher.pins")

    async def _forget(self, name: str) -> None:
        statement = """
            update publisher.pins set deleted_at = now()
            where idempotency_key like %s and state = 'queued'
        """
        async with await self._connect() as connection:
            await connection.execute(statement.encode(), (f"{name}%",))

    async def _import(self, workspace: NewWorkspace, rows: Sequence[dict[str, Any]]) -> None:
        async with self._client(workspace) as client:
            for start in range(0, len(rows), IMPORT_ROWS):
                answer = await client.post(
                    "/v1/pins/imports/json", json=list(rows[start : start + IMPORT_ROWS])
                )
                answer.raise_for_status()

    async def _publish(self, workspace: NewWorkspace, row: dict[str, Any]) -> None:
        async with self._client(workspace) as client:
            (await client.post("/v1/pins", json=row)).raise_for_status()

    async def _read_estimate(self, workspace: NewWorkspace, account_id: UUID) -> float:
        async with self._client(workspace) as client:
            answer = await client.get("/v1/deliveries")
            answer.raise_for_status()
        (delivery,) = [each for each in answer.json() if each["account_id"] == str(account_id)]
        return datetime.fromisoformat(delivery["estimated_end"]).timestamp()

    async def _wait_for(self, name: str, count: int, every: float = 0.2) -> None:
        """Waits until `count` pins whose keys begin with `name` are published."""
        query = """
            select count(*) as count from publisher.pins
            where idempotency_key like %s and state = 'published'
        """
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            (row,) = await self._fetch(query, (f"{name}%",))
            if row["count"] >= count:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"only {row['count']} of {count} pins {name} were published")
            await asyncio.sleep(every)

    async def _fetch(self, query: str, values: Any) -> list[dict[str, Any]]:
        async with await psycopg.AsyncConnection.connect(
            self._running.arena.database_url, row_factory=dict_row
        ) as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def _connect(self) -> "psycopg.AsyncConnection[tuple[Any, ...]]":
        return await psycopg.AsyncConnection.connect(
            self._running.arena.database_url, autocommit=True
        )

    def _client(self, workspace: NewWorkspace) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._running.arena.deployment.base_url,
            headers={"X-API-Key": workspace.api_key},
            timeout=30,
            trust_env=False,
        )

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _memory_mib(self) -> float:
        return round(self._process.memory_info().rss / 1024**2, 1)


def _build_row(account: Any, key: str, **fields: Any) -> dict[str, Any]:
    return {
        "account_id": str(account.id),
        "board_id": account.boards[0],
        "title": f"Pin {key}",
        "link_url": f"https://shop.example/{key}",
        "image_url": "https://images.example/1.jpg",
        "idempotency_key": key,
        **fields,
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(max(values), 2)}


async def measure(running: DeliveryArena, options: argparse.Namespace) -> None:
    bench = Bench(running)
    works = (
        partial(bench.measure_due, options.seconds),
        partial(bench.measure_fairness, options.queued),
        partial(bench.measure_estimate, options.estimate),
    )
    for name, work in zip(NAMES, works, strict=True):
        if name in options.only:
            print(json.dumps({name: await work()}, indent=2), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=100_000, help="default: %(default)d")
    parser.add_argument("--seconds", type=int, default=60, help="default: %(default)d")
    parser.add_argument("--estimate", type=int, default=600, help="default: %(default)d")
    parser.add_argument("--spacing", type=float, default=0.2, help="default: %(default)g seconds")
    parser.add_argument("--only", default=",".join(NAMES), help="default: %(default)s")
    parsed = parser.parse_args()
    parsed.only = parsed.only.split(",")
    if unknown := set(parsed.only) - set(NAMES):
        parser.error(
            f"--only: unknown {', '.join(sorted(unknown))}. Choose from {', '.join(NAMES)}."
        )
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-bench-") as directory,
        delivery_arena(
            Path(directory), 1, ACCOUNTS, 1, delivery_spacing_seconds=str(parsed.spacing)
        ) as running_arena,
    ):
        asyncio.run(measure(running_arena, parsed))
