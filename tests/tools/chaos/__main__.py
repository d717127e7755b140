"""Inflicts faults on a running Pinflow and checks that nothing was lost or duplicated.

python -m tests.tools.chaos [--minutes N] [--seed N] [--brokers 1|3] [--restores] [--only FAULT]
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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvloop

from deploy.local.layout import CHECKOUT
from tests.tools.chaos.api_client import open_client
from tests.tools.chaos.arena import INGEST_REPLICA, Arena, arena
from tests.tools.chaos.checker import check
from tests.tools.chaos.diagnosis import build_diagnosis
from tests.tools.chaos.history import History, RequestOutcome
from tests.tools.chaos.nemesis import FAULTS, RESTORES, Nemesis
from tests.tools.chaos.observer import Observer
from tests.tools.chaos.probe import Probe
from tests.tools.chaos.report import build_summary, format_report
from tests.tools.chaos.violations import Violation
from tests.tools.chaos.workload import Clients

RESULTS = CHECKOUT / ".pinflow" / "chaos"


async def run(
    arena: Arena, history: History, seconds: float, kinds: Sequence[str], *, at_least: int = 0
) -> list[Violation]:
    """Runs clients and faults together, waits until everything has settled, and checks the result.

    New faults begin for `seconds`, and until there were at least `at_least`.
    """
    base_url = arena.deployment.base_url
    # A restore loses undos and changes of pins, so there are no campaigns with it
    steers = not set(kinds) & set(RESTORES)
    replica_url = arena.deployment.service_url(INGEST_REPLICA) if steers else None
    clients = Clients(
        base_url, arena.kafka, arena.topic_prefix, arena.workspaces, history, replica_url
    )
    supervisor_task = asyncio.create_task(arena.supervise())
    clients_task = asyncio.create_task(clients.run())
    async with open_client(base_url, arena.workspaces[0], history) as api:
        probe = Probe(clients, api, history)
        await probe.seconds_until_recovered()  # warms everything up
        await Nemesis(arena, probe, history, kinds).run(seconds, at_least)
    clients.stop()
    await clients_task
    stranded = {name for restore in history.restores for name in restore.stranded_requests}
    observer = Observer(
        base_url, arena.kafka, arena.topic_prefix, arena.database_url, arena.workspaces, stranded
    )
    await observer.wait_until_settled(
        sum(submission.outcome is RequestOutcome.ACCEPTED for submission in history.submissions)
    )
    violations = check(history, await observer.read_final_state())
    if violations:
        print(await build_diagnosis(arena))
    supervisor_task.cancel()
    with suppress(asyncio.CancelledError):
        await supervisor_task
    return violations


def select_faults(only: str, *, restores: bool) -> list[str]:
    """Returns the faults whose name contains `only`.

    Restores are included only with `restores`, or if `only` names them.
    """
    candidates = (*FAULTS, *RESTORES) if restores or "restore" in only else FAULTS
    return [kind for kind in candidates if only in kind]


def main(minutes: float, seed: int, brokers: int, kinds: Sequence[str], options: str) -> int:
    """Returns the exit code: 0 only if nothing was lost, duplicated or otherwise wrong.

    `options` are further options of make chaos, for the command that repeats the run.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs every failed connection
    history = History(seed)
    directory = Path(tempfile.mkdtemp(prefix="pinflow-chaos-"))
    started = time.monotonic()
    print(
        f"seed {seed}, {brokers} broker{'s' if brokers > 1 else ''}, {minutes:g} minutes of faults",
        flush=True,
    )
    with arena(directory, brokers) as running:
        violations = uvloop.run(run(running, history, minutes * 60, kinds))
        died = running.died
    report = build_summary(
        history, violations, brokers=brokers, seconds=time.monotonic() - started, died=died
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"seed-{seed}-brokers-{brokers}.json"
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(format_report(report))
    if violations:
        print(f"logs: {directory}; all violations: {file.relative_to(CHECKOUT)}")
        print(f"repeat: make chaos MINUTES={minutes:g} SEED={seed} BROKERS={brokers}{options}")
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=2, help="minutes of faults; default: %(default)g"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=None,
        help="repeats the choices of an earlier run; default: a random seed",
    )
    parser.add_argument(
        "--brokers", type=int, choices=(1, 3), default=1, help="brokers of Kafka; default: 1"
    )
    parser.add_argument(
        "--only", default="", help="inflicts only faults whose name contains this text"
    )
    parser.add_argument(
        "--restores",
        action="store_true",
        help="sometimes replaces Postgres with an older copy of itself",
    )
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    kinds = select_faults(options.only, restores=options.restores)
    if not kinds:
        parser.error(
            f"--only {options.only!r} matches no fault. Use a part of one of these names: "
            f"{', '.join((*FAULTS, *RESTORES))}."
        )
    make_options = (" RESTORES=1" if options.restores else "") + (
        f' ONLY="{options.only}"' if options.only else ""
    )
    sys.exit(main(options.minutes, seed, options.brokers, kinds, make_options))
