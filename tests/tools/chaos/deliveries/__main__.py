"""Delivers pins under faults and judges the result by the simulator's log.

python -m tests.tools.chaos.deliveries [--pins N] [--accounts N] [--seed N] [--brokers 1|3]
[--restores]
"""

import argparse
import asyncio
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from deploy.local.layout import CHECKOUT
from tests.tools.chaos.deliveries.arena import DeliveryArena, delivery_arena
from tests.tools.chaos.deliveries.judge import Verdict, judge
from tests.tools.chaos.deliveries.nemesis import Nemesis
from tests.tools.chaos.deliveries.plan import plan_pins
from tests.tools.chaos.deliveries.progress import show_progress
from tests.tools.chaos.deliveries.store import StoreReader
from tests.tools.chaos.deliveries.users import Users
from tests.tools.chaos.deliveries.workload import Workload
from tests.tools.chaos.diagnosis import build_diagnosis

RESULTS = CHECKOUT / ".pinflow" / "chaos"
SHARE_UNDER_FAULTS = 0.9
"""The faults go on until this share of the planned pins has ended."""
MAX_FAULT_MINUTES = 40.0
MAX_END_MINUTES = 25.0
SHORTEN_SECONDS = 15.0


async def run(
    running: DeliveryArena, pins: int, seed: int, *, restores: bool
) -> tuple[Verdict, dict[str, Any]]:
    """Sends the pins, inflicts faults, waits for the end, and judges."""
    started = time.monotonic()
    planned = plan_pins(running.workspaces, pins, seed)
    workload = Workload(running.arena.deployment.base_url, running.workspaces, planned)
    store = StoreReader(running.arena.database_url, running.workspaces)
    nemesis = Nemesis(running, seed, with_restores=restores)
    users = Users(running.simulated_settings, running.workspaces)
    watchers = [
        asyncio.create_task(running.supervise()),
        asyncio.create_task(users.look_after_accounts()),
        asyncio.create_task(show_progress(store, nemesis, pins)),
    ]
    faults = asyncio.create_task(nemesis.run())
    sending = asyncio.create_task(workload.submit_all())
    limit = started + MAX_FAULT_MINUTES * 60
    await _wait_for_ends(store, int(pins * SHARE_UNDER_FAULTS), limit)
    nemesis.stop.set()
    await faults
    await sending
    faults_ended = time.monotonic()
    if restores:
        await workload.submit_direct_again()
    await _wait_for_ends(store, pins, time.monotonic() + MAX_END_MINUTES * 60)
    log = await asyncio.to_thread(running.simulator.control, "GET", "pins")
    verdict = judge(planned, log, await store.read_pins(), await store.read_attempts())
    if not verdict.is_clean:
        print(await build_diagnosis(running.arena))
    for task in watchers:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    facts = {
        "minutes_under_faults": round((faults_ended - started) / 60, 1),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "inflicted": nemesis.counts,
        "answers_with_faults": dict(running.answers),
        "accounts_connected_again": users.connected_again,
        "refusals": workload.refusals[:10],
        "died": running.arena.died,
    }
    return verdict, facts


async def _wait_for_ends(store: StoreReader, count: int, deadline: float) -> None:
    """Waits until `count` pins have ended, at most until the deadline (monotonic seconds).

    Meanwhile shortens long waits every SHORTEN_SECONDS.
    """
    shortened_at = 0.0
    while time.monotonic() < deadline:
        counts = await store.count()
        if counts is not None and time.monotonic() - shortened_at > SHORTEN_SECONDS:
            shortened_at = time.monotonic()
            with suppress(psycopg.Error):
                await store.shorten_waits()
        if counts is not None and counts[0] >= count:
            return
        await asyncio.sleep(1)


def main(pins: int, accounts: int, seed: int, brokers: int, *, restores: bool) -> int:
    """Returns the exit code: 0 only if no pin was doubled or lost.

    If it is 1, or if a program ended by itself, prints the folder of the programs' logs and keeps
    it.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs every failed connection
    logging.getLogger("httpx").setLevel(logging.WARNING)
    directory = Path(tempfile.mkdtemp(prefix="pinflow-deliveries-"))
    print(f"seed {seed}, {brokers} broker(s), {pins} pins, {accounts} accounts", flush=True)
    try:
        with delivery_arena(directory, brokers, accounts) as running:
            verdict, facts = uvloop.run(run(running, pins, seed, restores=restores))
    except BaseException:
        print(f"logs: {directory}", flush=True)
        raise
    report = {"seed": seed, "brokers": brokers, "restores": restores, **verdict.describe(), **facts}
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"deliveries-{seed}-brokers-{brokers}{'-restores' if restores else ''}.json"
    text = json.dumps(report, indent=2)
    (RESULTS / name).write_text(f"{text}\n", encoding="utf-8")
    print(text)
    is_clean = verdict.is_clean and not workload_failed(facts)
    if is_clean and not facts["died"]:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"logs: {directory}")
    return 0 if is_clean else 1


def workload_failed(facts: dict[str, Any]) -> bool:
    """Returns whether Pinflow refused a request that it should have accepted."""
    return bool(facts["refusals"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pins", type=int, default=2000, help="default: %(default)d")
    parser.add_argument("--accounts", type=int, default=10, help="default: %(default)d, even")
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument(
        "--restores",
        action="store_true",
        help="sometimes replaces Postgres with an older copy of itself",
    )
    options = parser.parse_args()
    chosen = options.seed if options.seed is not None else random.randrange(10**6)
    sys.exit(
        main(options.pins, options.accounts, chosen, options.brokers, restores=options.restores)
    )
