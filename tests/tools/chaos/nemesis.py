"""The faults.

Each begins, lasts a while and ends; how long it then takes to recover is measured before the next
one.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import psycopg

from deploy.services import SERVICES
from tests.support.kafka import all_in_sync
from tests.support.processes import RunningProgram
from tests.support.waiting import eventually
from tests.tools.chaos.arena import Arena
from tests.tools.chaos.history import Fault, History
from tests.tools.chaos.network import Proxy
from tests.tools.chaos.probe import Probe
from tests.tools.chaos.restores import VICTIMS, Restorer

Inflict = Callable[[Arena, random.Random], Coroutine[Any, Any, None]]
"""Returns when the fault has ended: what was killed has been started again, what was cut is whole.
"""

DOWN_SECONDS = (0.0, 1.5)
FROZEN_SECONDS = (1.0, 6.0)
CUT_SECONDS = (0.5, 5.0)
SLOW_SECONDS = (0.05, 0.3)
GUEST_SECONDS = (3.0, 7.0)
CLOCK_OFF_SECONDS = 240
"""Below the five minutes within which the status service takes an id for young."""
GAP_SECONDS = (0.2, 1.5)
TWO_AT_ONCE = 0.2


async def kill(arena: Arena, program: RunningProgram, rng: random.Random) -> None:
    """SIGKILL, a moment of absence, and a new start."""
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


def _freeze_service(name: str) -> Inflict:
    return lambda arena, rng: freeze(arena.program(name), rng)


async def kill_broker(arena: Arena, rng: random.Random) -> None:
    await _in_sync(arena)
    await kill(arena, rng.choice(arena.brokers), rng)


async def freeze_broker(arena: Arena, rng: random.Random) -> None:
    await _in_sync(arena)
    await freeze(rng.choice(arena.brokers), rng)


async def _in_sync(arena: Arena) -> None:
    """One at a time: with two of three behind, nothing is accepted, as promised."""
    with suppress(AssertionError):
        await eventually(lambda: all_in_sync(arena.kafka), seconds=30, every=0.5)


async def kill_postgres(arena: Arena, rng: random.Random) -> None:
    await kill(arena, arena.postgres, rng)


async def drop_connections(arena: Arena, _rng: random.Random) -> None:
    await _administer(
        arena,
        "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'pinflow\\_%'",
    )


async def read_only_database(arena: Arena, rng: random.Random) -> None:
    """As a failover or a full disk leaves it: it answers, and takes nothing."""
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
    """A fault of the network between services and a server."""

    async def inflict(arena: Arena, rng: random.Random) -> None:
        proxies = choose(arena, rng)
        for proxy in proxies:
            await asyncio.to_thread(arena.network.do, fault(proxy, rng))
        await asyncio.sleep(rng.uniform(*CUT_SECONDS))
        for proxy in proxies:
            await asyncio.to_thread(arena.network.do, proxy.mend())

    return inflict


def _to_kafka(arena: Arena, rng: random.Random) -> list[Proxy]:
    """To all brokers, or to one of three."""
    return arena.kafka_proxies if rng.random() < 0.5 else [rng.choice(arena.kafka_proxies)]


def _to_postgres(arena: Arena, _rng: random.Random) -> list[Proxy]:
    return [arena.postgres_proxy]


def _cut(proxy: Proxy, _rng: random.Random) -> Coroutine[Any, Any, None]:
    return proxy.cut()


def _silence(proxy: Proxy, _rng: random.Random) -> Coroutine[Any, Any, None]:
    return proxy.silence()


def _slow(proxy: Proxy, rng: random.Random) -> Coroutine[Any, Any, None]:
    return proxy.slow(rng.uniform(*SLOW_SECONDS))


def _guest(name: str) -> Inflict:
    """A second replica comes, takes its partitions, and goes: asked to, or killed, back again, and
    then asked to.
    """

    async def inflict(arena: Arena, rng: random.Random) -> None:
        guest = arena.another(name)
        guest.start()
        await asyncio.sleep(rng.uniform(*GUEST_SECONDS))
        if rng.random() < 0.5:
            await asyncio.to_thread(guest.kill)
            guest.start()
            await asyncio.sleep(rng.uniform(*GUEST_SECONDS))
        await asyncio.to_thread(guest.close)

    return inflict


def _clock(name: str) -> Inflict:
    """The service's clock is off by minutes for a while."""

    async def inflict(arena: Arena, rng: random.Random) -> None:
        program = arena.program(name)
        for seconds in (rng.uniform(-CLOCK_OFF_SECONDS, CLOCK_OFF_SECONDS), 0.0):
            arena.held_down.add(name)
            await asyncio.to_thread(program.terminate)
            arena.set_clock(name, seconds)
            program.start()
            arena.held_down.discard(name)
            if seconds:
                await asyncio.sleep(rng.uniform(*GUEST_SECONDS))

    return inflict


FAULTS: dict[str, Inflict] = {
    **{f"kill {name}": _kill_service(name) for name in (*SERVICES, "gateway")},
    **{f"freeze {name}": _freeze_service(name) for name in SERVICES},
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
    **{f"second {name} comes and goes": _guest(name) for name in SERVICES},
    **{f"clock of {name} is off": _clock(name) for name in SERVICES},
}


RESTORE = "restore postgres"
RESTORE_AMID_KILLS = "restore postgres amid kills"
RESTORES = (RESTORE, RESTORE_AMID_KILLS)
RESTORE_EVERY = 5
"""Other faults come between two restores."""

TARGETS = {
    **{name: name for name in (*SERVICES, "gateway")},
    **dict.fromkeys(("broker", "kafka"), "kafka"),
    **dict.fromkeys(("postgres", "database"), "postgres"),
}


class Nemesis:
    """Inflicts them in an order that follows from the seed: every kind once before any comes again.

    Restores, if any are asked for, come at a fixed rate among the others.
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
        """Until that time has passed and so many faults were felt; the one that has begun is ended,
        and recovered from.
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
                f"{fault.recovered:4.1f} s",
                flush=True,
            )
            if set(RESTORES) & set(chosen):
                await self._restorer.wait_until_caught_up(self._arena)
                await self._probe.poll_older_jobs(before=self._history.restores[-1].replaced)
            await asyncio.sleep(self._rng.uniform(*GAP_SECONDS))

    async def _inflict(self, kinds: Iterator[str]) -> list[str]:
        """One fault, or two at the same time. Returns which."""
        chosen = [next(kinds)]
        if self._rng.random() < TWO_AT_ONCE:
            chosen += [kind for kind in [next(kinds)] if not _targets(kind) & _targets(chosen[0])]
        # Each has its own generator: what one draws must not depend on when the other does
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
    """Two faults of one thing would undo each other."""
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
