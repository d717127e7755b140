"""Replaces Postgres with an older copy of itself under the running services."""

import asyncio
import random
import shutil
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.support.restores import restore, snapshot
from tests.support.waiting import eventually
from tests.tools.chaos.arena import Arena
from tests.tools.chaos.history import ForgottenRequest, History, Key, Restore

RESTORE_DELAY_SECONDS = (1.0, 12.0)
"""The time from the copy to the restore."""
RECOVERY_SECONDS = 25.0
"""Longer than the 20 s that the publisher waits before a replay."""
VICTIMS = ("publisher", "status")
SERVER_SECONDS = 60.0
CAUGHT_UP_SECONDS = 90.0
COMMITTED = "committed"

DIRECT_PINS = "select workspace_id, idempotency_key from publisher.pins where origin_job_id is null"
REQUESTS = """
    select r.workspace_id, r.request_id, r.job_id, r.state, j.completed_at is not null
    from ingest.requests r left join status.jobs j using (job_id) where r.channel = 'topic'
"""
POSITIONS = """
    select 'publisher', topic, partition, next_offset, replay_until from publisher.positions
    union all
    select 'status', topic, partition, next_offset, replay_until from status.positions
"""
CLIENTS = "select count(*) from pg_stat_activity where usename like 'pinflow\\_%'"


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """The data of a Postgres that Kafka can't restore, and its consumers' positions."""

    direct_pins: set[Key]
    requests: dict[Key, tuple[str, str, bool]]
    """The job, the state, and whether the job has ended, by request id."""
    positions: dict[tuple[str, str, int], int]


Kill = Callable[[Arena, str, random.Random], Coroutine[Any, Any, None]]


class Restorer:
    """Inflicts restores and records in the history which data each has lost."""

    def __init__(self, history: History, kill: Kill) -> None:
        self._history = history
        self._kill = kill
        self._reached: dict[tuple[str, str, int], int] = {}

    async def restore(self, arena: Arena, rng: random.Random) -> None:
        """Copies Postgres, and later replaces it with the copy. The clients keep working."""
        await self._restore(arena, rng)

    async def restore_amid_kills(self, arena: Arena, rng: random.Random) -> None:
        """Restores Postgres, and kills a service right before the restore or in the recovery."""
        victim = rng.choice(VICTIMS)
        if rng.random() < 0.5:
            await self._restore(arena, rng, victim)
        else:
            await self._restore(arena, rng)
            await asyncio.sleep(rng.uniform(0, RECOVERY_SECONDS))
            await self._kill(arena, victim, rng)

    async def wait_until_caught_up(self, arena: Arena) -> None:
        """Waits until the consumers have reached their positions before the latest restore."""
        latest = self._history.restores[-1]
        try:
            await eventually(
                lambda: self._is_caught_up(arena), seconds=CAUGHT_UP_SECONDS, every=0.2
            )
        except AssertionError:
            self._history.unexpected_answers.append(
                f"positions are still behind {CAUGHT_UP_SECONDS:g} s after a restore"
            )
        latest.recovered_at = asyncio.get_running_loop().time()

    async def _restore(self, arena: Arena, rng: random.Random, victim: str | None = None) -> None:
        clock, server = asyncio.get_running_loop().time, arena.postgres
        copied_at = clock()
        copy = await asyncio.to_thread(snapshot, server)
        await asyncio.sleep(rng.uniform(*RESTORE_DELAY_SECONDS))
        killing = asyncio.create_task(self._kill(arena, victim, rng)) if victim else None
        # No client is connected while both states are read, so their difference is exact
        arena.held_down.add(server.program.name)
        await asyncio.to_thread(arena.network.do, arena.postgres_proxy.cut())
        replaced_at = clock()
        before = await _read(arena)
        await asyncio.to_thread(restore, server, copy)
        arena.held_down.discard(server.program.name)
        after = await _read(arena)
        self._record(copied_at, replaced_at, before, after)
        await asyncio.to_thread(arena.network.do, arena.postgres_proxy.mend())
        await asyncio.to_thread(shutil.rmtree, copy)
        if killing:
            await killing

    def _record(
        self, copied_at: float, replaced_at: float, before: DatabaseState, after: DatabaseState
    ) -> None:
        requests = {
            key: ForgottenRequest(job_id, ended)
            for key, (job_id, _, ended) in before.requests.items()
            if key not in after.requests
        }
        stranded = {
            key[1]
            for key, (_, state, _) in after.requests.items()
            if state != COMMITTED and before.requests[key][1] == COMMITTED
        }
        pins = before.direct_pins - after.direct_pins
        self._history.restores.append(Restore(copied_at, replaced_at, pins, requests, stranded))
        self._reached = before.positions

    async def _is_caught_up(self, arena: Arena) -> bool:
        async with await psycopg.AsyncConnection.connect(arena.database_url) as connection:
            rows = await (await connection.execute(POSITIONS)).fetchall()
        reached = {
            (service, topic, partition): offset for service, topic, partition, offset, _ in rows
        }
        is_replaying = any(until is not None and offset < until for *_, offset, until in rows)
        return not is_replaying and all(
            reached.get(partition, 0) >= offset for partition, offset in self._reached.items()
        )


async def _read(arena: Arena) -> DatabaseState:
    """Reads the state as soon as the server answers and no service is connected."""
    return await eventually(lambda: _try_to_read(arena), seconds=SERVER_SECONDS, every=0.05)


async def _try_to_read(arena: Arena) -> DatabaseState | None:
    numbers = {workspace.id: number for number, workspace in enumerate(arena.workspaces)}
    try:
        async with await psycopg.AsyncConnection.connect(
            arena.database_url, connect_timeout=2
        ) as connection:
            ((clients,),) = await _fetch_all(connection, CLIENTS)
            if clients:
                return None
            pins = {
                (numbers[workspace], key)
                for workspace, key in await _fetch_all(connection, DIRECT_PINS)
            }
            requests = {
                (numbers[workspace], name): (str(job_id), state, ended)
                for workspace, name, job_id, state, ended in await _fetch_all(connection, REQUESTS)
            }
            positions = {
                (service, topic, partition): offset
                for service, topic, partition, offset, _ in await _fetch_all(connection, POSITIONS)
            }
    except psycopg.OperationalError:  # the server starts or recovers
        return None
    return DatabaseState(pins, requests, positions)


async def _fetch_all(
    connection: "psycopg.AsyncConnection[tuple[Any, ...]]", query: str
) -> Sequence[tuple[Any, ...]]:
    return await (await connection.execute(query.encode())).fetchall()
