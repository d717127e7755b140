"""The faults, and the nemesis that inflicts them one after the other.

After each fault the nemesis measures how long the pipeline needs to recover.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import psycopg

from deploy.services import SERVICES
from tests.support.kafka import are_replicas_in_sync
from tests.support.processes import RunningProgram
from tests.support.waiting import eventually
from tests.tools.chaos.arena import INGEST_REPLICA, Arena
from tests.tools.chaos.history import Fault, History
from tests.tools.chaos.network import Proxy
from tests.tools.chaos.probe import Probe
from tests.tools.chaos.restores import VICTIMS, Restorer

Inflict = Callable[[Arena, random.Random], Coroutine[Any, Any, None]]
"""Inflicts a fault and ends it: restarts killed programs and restores cut connections."""

DOWN_SECONDS = (0.0, 1.5)
FROZEN_SECONDS = (1.0, 6.0)
CUT_SECONDS = (0.5, 5.0)
SLOW_SECONDS = (0.05, 0.3)
SECOND_REPLICA_SECONDS = (3.0, 7.0)
MAX_CLOCK_OFFSET_SECONDS = 240
"""Less than the five minutes for which the status service regards a job id as recent."""
GAP_SECONDS = (0.2, 1.5)
TWO_AT_ONCE = 0.2
"""The share of faults that come with a second one."""


async def kill(arena: Arena, program: RunningProgram, rng: random.Random) -> None:
    """Kills a program with SIGKILL and starts it again after a moment."""
    name = program.program.name
    arena.held_down.add(name)
    await asyncio.to_thread(program.kill)
    await asyncio.sleep(rng.uniform(*DOWN_SECONDS))
    program.start()
    arena.held_down.discard(name)


async def freeze(program: RunningProgram, rng: random.Random) -> None:
    await asyncio.to_thread(program.pause)
    await asyncio.sleep(rng.uniform(*FROZEN_SECONDS))
    program.resume()


def _kill_service(name: str) -> Inflict:
    return lambda arena, rng: kill(arena, arena.program(name), rng)


async def kill_replica(arena: Arena, rng: random.Random) -> None:
    await kill(arena, arena.program(INGEST_REPLICA), rng)


def _freeze_service(name: str) -> Inflict:
    return lambda arena, rng: freeze(arena.program(name), rng)


async def kill_broker(arena: Arena, rng: random.Random) -> None:
    await _wait_until_in_sync(arena)
    await kill(arena, rng.choice(arena.brokers), rng)


async def freeze_broker(arena: Arena, rng: random.Random) -> None:
    await _wait_until_in_sync(arena)
    await freeze(rng.choice(arena.brokers), rng)


async def _wait_until_in_sync(arena: Arena) -> None:
    """Waits for all brokers, at most 30 s: Kafka accepts no records if two of three are behind."""
    with suppress(AssertionError):
        await eventually(lambda: are_replicas_in_sync(arena.kafka), seconds=30, every=0.5)


async def kill_postgres(arena: Arena, rng: random.Random) -> None:
    await kill(arena, arena.postgres, rng)


async def drop_connections(arena: Arena, _rng: random.Random) -> None:
    await _administer(
        arena,
        "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'pinflow\\_%'",
    )


async def read_only_database(arena: Arena, rng: random.Random) -> None:
    """Makes Postgres reject writes, as it may after a failover or with a full disk."""
    await _administer(
        arena, "alter system set default_transaction_read_only = on", "select pg_reload_conf()"
    )
    await asyncio.sleep(rng.uniform(*CUT_SECONDS))
    await _administer(
        arena, "alter system reset default_transaction_read_only", "select pg_reload_conf()"
    )


def _through(
    choose: Callable[[Arena, random.Random], list[Proxy]],
    fault: Callable[[Proxy, random.Random], Coroutine[Any, Any, None]],
) -> Inflict:
    """Builds a fault of the network between the services and a server."""

    async def inflict(arena: Arena, rng: random.Random) -> None:
        proxies = choose(arena, rng)
        for proxy in proxies:
            await asyncio.to_thread(arena.network.do, fault(proxy, rng))
        await asyncio.sleep(rng.uniform(*CUT_SECONDS))
        for proxy in proxies:
            await asyncio.to_thread(arena.network.do, proxy.mend())

    return inflict


def _to_kafka(arena: Arena, rng: random.Random) -> list[Proxy]:
    """Chooses the proxies of all brokers or of a single one."""
    return arena.kafka_proxies if rng.random() < 0.5 else [rng.choice(arena.kafka_proxies)]


def _to_postgres(arena: Arena, _rng: random.Random) -> list[Proxy]:
    return [arena.postgres_proxy]


def _cut(proxy: Proxy, _rng: random.Random) -> Coroutine[Any, Any, None]:
    return proxy.cut()


def _silence(proxy: Proxy, _rng: random.Random) -> Coroutine[Any, Any, None]:
    return proxy.silence()


def _slow(proxy: Proxy, rng: random.Random) -> Coroutine[Any, Any, None]:
    return proxy.slow(rng.uniform(*SLOW_SECONDS))


def _second_replica(name: str) -> Inflict:
    """Builds a fault that starts a second replica, which gets some partitions, and stops it.

    In half of the cases the replica is first killed and started again.
    """

    async def inflict(arena: Arena, rng: random.Random) -> None:
        replica = arena.second_replica(name)
        replica.start()
        await asyncio.sleep(rng.uniform(*SECOND_REPLICA_SECONDS))
        if rng.random() < 0.5:
            await asyncio.to_thread(replica.kill)
            replica.start()
            await asyncio.sleep(rng.uniform(*SECOND_REPLICA_SECONDS))
        await asyncio.to_thread(replica.close)

    return inflict


def _clock_offset(name: str) -> Inflict:
    """Builds a fault that skews a service's clock by up to four minutes for a while."""

    async def inflict(arena: Arena, rng: random.Random) -> None:
        program = arena.program(name)
        offset = rng.uniform(-MAX_CLOCK_OFFSET_SECONDS, MAX_CLOCK_OFFSET_SECONDS)
        for seconds in (offset, 0.0):
            arena.held_down.add(name)
            await asyncio.to_thread(program.terminate)
            arena.set_clock(name, seconds)
            program.start()
            arena.held_down.discard(name)
            if seconds:
                await asyncio.sleep(rng.uniform(*SECOND_REPLICA_SECONDS))

    return inflict


FAULTS: dict[str, Inflict] = {
    **{f"kill {name}": _kill_service(name) for name in (*SERVICES, "gateway")},
    **{f"freeze {name}": _freeze_service(name) for name in SERVICES},
    "kill a replica of ingest": kill_replica,
    "kill a broker": kill_broker,
    "freeze a broker": freeze_broker,
    "kill postgres": kill_postgres,
    "drop database connections": drop_connections,
    "read-only database": read_only_database,
    "cut kafka off": _through(_to_kafka, _cut),
    "silence kafka": _through(_to_kafka, _silence),
    "slow kafka": _through(_to_kafka, _slow),
    "cut postgres off": _through(_to_postgres, _cut),
    "silence postgres": _through(_to_postgres, _silence),
    "slow postgres": _through(_to_postgres, _slow),
    **{f"second {name} comes and goes": _second_replica(name) for name in SERVICES},
    **{f"clock of {name} is off": _clock_offset(name) for name in SERVICES},
}


RESTORE = "restore postgres"
RESTORE_AMID_KILLS = "restore postgres amid kills"
RESTORES = (RESTORE, RESTORE_AMID_KILLS)
RESTORE_EVERY = 5
"""The number of other faults between two restores."""

TARGETS = {
    **{name: name for name in (*SERVICES, "gateway")},
    **dict.fromkeys(("broker", "kafka"), "kafka"),
    **dict.fromkeys(("postgres", "database"), "postgres"),
}


class Nemesis:
    """Inflicts the faults in a random order that follows from the seed.

    Every kind except restores comes once before any of these kinds comes again. A restore comes
    after every RESTORE_EVERY other faults.
    """

    def __init__(
        self, arena: Arena, probe: Probe, history: History, kinds: Sequence[str] = tuple(FAULTS)
    ) -> None:
        self._arena = arena
        self._probe = probe
        self._history = history
        self._deck = [kind for kind in kinds if kind not in RESTORES]
        self._restores = [kind for kind in kinds if kind in RESTORES]
        self._restorer = Restorer(history, _kill_named)
        restores = {
            RESTORE: self._restorer.restore,
            RESTORE_AMID_KILLS: self._restorer.restore_amid_kills,
        }
        self._faults: dict[str, Inflict] = {**FAULTS, **restores}
        self._rng = random.Random(f"{history.seed}/nemesis")

    async def run(self, seconds: float, at_least: int = 0) -> None:
        """Begins new faults for `seconds`, and until there were at least `at_least`.

        Returns after the last fault has ended and the pipeline has recovered.
        """
        loop = asyncio.get_running_loop()
        started, kinds = loop.time(), self._kinds()
        while loop.time() < started + seconds or len(self._history.faults) < at_least:
            began = loop.time() - started
            chosen = await self._inflict(kinds)
            ended = loop.time() - started
            fault = Fault(
                " + ".join(chosen), began, ended, await self._probe.seconds_until_recovered()
            )
            self._history.faults.append(fault)
            print(
                f"  {began:7.1f} s  {fault.kind:50} lasted {ended - began:4.1f} s, recovered in "
                f"{fault.recovery_seconds:4.1f} s",
                flush=True,
            )
            if set(RESTORES) & set(chosen):
                await self._restorer.wait_until_caught_up(self._arena)
                await self._probe.poll_older_jobs(before=self._history.restores[-1].replaced_at)
            await asyncio.sleep(self._rng.uniform(*GAP_SECONDS))

    async def _inflict(self, kinds: Iterator[str]) -> list[str]:
        """Inflicts one fault, or two at the same time. Returns their kinds."""
        chosen = [next(kinds)]
        if self._rng.random() < TWO_AT_ONCE:
            chosen += [kind for kind in [next(kinds)] if not _targets(kind) & _targets(chosen[0])]
        # Each has its own generator, so that its choices do not depend on the other's timing
        await asyncio.gather(
            *(self._faults[kind](self._arena, random.Random(self._rng.random())) for kind in chosen)
        )
        return chosen

    def _kinds(self) -> Iterator[str]:
        others, restores = self._shuffled(self._deck), self._shuffled(self._restores)
        while True:
            if self._deck:
                yield from islice(others, RESTORE_EVERY)
            if self._restores:
                yield next(restores)

    def _shuffled(self, deck: list[str]) -> Iterator[str]:
        while deck:
            self._rng.shuffle(deck)
            yield from deck


async def _kill_named(arena: Arena, name: str, rng: random.Random) -> None:
    await kill(arena, arena.program(name), rng)


def _targets(kind: str) -> set[str]:
    """Returns the programs that a fault affects. Two faults of one program would interfere."""
    return (
        {"postgres", *VICTIMS}
        if kind in RESTORES
        else {next(target for word, target in TARGETS.items() if word in kind)}
    )


async def _administer(arena: Arena, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        arena.database_url, autocommit=True
    ) as connection:
        for statement in ("set default_transaction_read_only = off", *statements):
            await connection.execute(statement.encode())
