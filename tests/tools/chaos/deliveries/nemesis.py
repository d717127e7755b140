"""Inflicts faults on the delivery while it runs: the simulator's, and those of the programs."""

import asyncio
import random
import shutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.support.processes import RunningProgram
from tests.support.restores import restore, snapshot
from tests.support.waiting import eventually
from tests.tools.chaos.deliveries.arena import LATE_LIST_SECONDS, TIMEOUT_SECONDS, DeliveryArena
from tests.tools.chaos.nemesis import FAULTS, freeze, kill
from tests.tools.chaos.network import Proxy

GAP_SECONDS = (2.0, 12.0)
CUT_SECONDS = (1.0, 8.0)
SLOW_SECONDS = (0.05, 0.3)
RESTORE_EVERY = 6
"""The number of other faults between two restores."""
RESTORE_DELAY_SECONDS = (3.0, 20.0)

ANSWER_FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "cut_after", "share": 0.035},
    {"kind": "cut_before", "share": 0.025},
    {"kind": "error_after", "share": 0.02},
    {"kind": "error_before", "share": 0.02},
    {"kind": "internal", "share": 0.005},
    {"kind": "fetch", "share": 0.005},
    {"kind": "token", "share": 0.003},
    {"kind": "board_refused", "share": 0.001},
    {"kind": "image_small", "share": 0.001},
    {"kind": "rate_limit", "share": 0.001, "seconds": 3},
    {"kind": "spam_block", "share": 0.0003, "seconds": 10},
    {"kind": "slow", "share": 0.005, "operation": "pins/create", "seconds": TIMEOUT_SECONDS * 1.5},
    {"kind": "late_list", "share": 0.5, "seconds": LATE_LIST_SECONDS},
    {"kind": "shuffled_list"},
)
"""A tenth of the creations lose their answer."""

Inflict = Callable[[DeliveryArena, random.Random], Coroutine[Any, Any, None]]


def _choose_delivery(running: DeliveryArena, rng: random.Random) -> RunningProgram:
    return rng.choice(running.deliveries)


async def kill_delivery(running: DeliveryArena, rng: random.Random) -> None:
    await kill(running.arena, _choose_delivery(running, rng), rng)


async def kill_all_deliveries(running: DeliveryArena, rng: random.Random) -> None:
    await asyncio.gather(*(kill(running.arena, program, rng) for program in running.deliveries))


async def freeze_delivery(running: DeliveryArena, rng: random.Random) -> None:
    await freeze(_choose_delivery(running, rng), rng)


async def kill_simulator(running: DeliveryArena, rng: random.Random) -> None:
    """Kills the simulator, which keeps its pins and tokens, and injects its faults again."""
    await running.count_answers()
    await kill(running.arena, running.simulator.process, rng)
    await asyncio.to_thread(running.simulator.wait_until_ready)
    await asyncio.to_thread(inject_answer_faults, running)


async def expire_token(running: DeliveryArena, rng: random.Random) -> None:
    users = await asyncio.to_thread(running.simulator.list_accounts)
    user = rng.choice(users)["id"]
    await asyncio.to_thread(running.simulator.break_tokens, user, "expire_access")


def _cut_pinterest(
    fault: Callable[[Proxy, random.Random], Coroutine[Any, Any, None]],
) -> Inflict:
    async def inflict(running: DeliveryArena, rng: random.Random) -> None:
        network, proxy = running.arena.network, running.pinterest_proxy
        await asyncio.to_thread(network.do, fault(proxy, rng))
        await asyncio.sleep(rng.uniform(*CUT_SECONDS))
        await asyncio.to_thread(network.do, proxy.mend())

    return inflict


def _of_arena(name: str) -> Inflict:
    return lambda running, rng: FAULTS[name](running.arena, rng)


async def restore_postgres(running: DeliveryArena, rng: random.Random) -> None:
    """Copies Postgres and later replaces it with the copy, under the running processes."""
    server = running.arena.postgres
    copy = await asyncio.to_thread(snapshot, server)
    await asyncio.sleep(rng.uniform(*RESTORE_DELAY_SECONDS))
    running.arena.held_down.add(server.program.name)
    await asyncio.to_thread(restore, server, copy)
    running.arena.held_down.discard(server.program.name)
    await asyncio.to_thread(shutil.rmtree, copy)


DELIVERY_FAULTS: dict[str, Inflict] = {
    "kill delivery": kill_delivery,
    "kill both deliveries": kill_all_deliveries,
    "freeze delivery": freeze_delivery,
    "kill the simulator": kill_simulator,
    "expire a token": expire_token,
    "cut pinterest off": _cut_pinterest(lambda proxy, _: proxy.cut()),
    "silence pinterest": _cut_pinterest(lambda proxy, _: proxy.silence()),
    "slow pinterest": _cut_pinterest(lambda proxy, rng: proxy.slow(rng.uniform(*SLOW_SECONDS))),
    **{
        name: _of_arena(name)
        for name in (
            "kill publisher",
            "kill access",
            "kill a broker",
            "freeze a broker",
            "kill postgres",
            "drop database connections",
            "read-only database",
            "cut kafka off",
            "silence kafka",
            "cut postgres off",
            "silence postgres",
        )
    },
}
RESTORE = "restore postgres"


def inject_answer_faults(running: DeliveryArena) -> None:
    for fault in ANSWER_FAULTS:
        running.simulator.control("POST", "faults", fault)


@dataclass
class Nemesis:
    """Inflicts faults one after the other until `stop` is set, in an order that the seed decides.

    Every kind comes once before any comes again.
    """

    running: DeliveryArena
    seed: int
    with_restores: bool
    counts: dict[str, int] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        rng = random.Random(f"{self.seed}/deliveries")
        await asyncio.to_thread(inject_answer_faults, self.running)
        deck: list[str] = []
        number = 0
        while not self.stop.is_set():
            if self.with_restores and number % RESTORE_EVERY == RESTORE_EVERY - 1:
                await self._inflict(RESTORE, restore_postgres, rng)
            else:
                deck = deck or rng.sample(sorted(DELIVERY_FAULTS), len(DELIVERY_FAULTS))
                name = deck.pop()
                await self._inflict(name, DELIVERY_FAULTS[name], rng)
            number += 1
            await asyncio.sleep(rng.uniform(*GAP_SECONDS))
        await eventually(self._clear_faults, seconds=60, every=1)

    async def _inflict(self, name: str, fault: Inflict, rng: random.Random) -> None:
        await fault(self.running, random.Random(rng.random()))
        self.counts[name] = self.counts.get(name, 0) + 1

    async def _clear_faults(self) -> bool:
        await asyncio.to_thread(self.running.simulator.control, "POST", "faults", {"kind": "none"})
        await self.running.count_answers()
        return True
