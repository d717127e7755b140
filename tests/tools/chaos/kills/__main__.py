"""Kills brokers or producers and checks that no import is damaged.

python -m tests.tools.chaos.kills --kind KIND --count N continues an earlier run with the same
tally. The exit code is 1 if an import was stored in part, lost or duplicated, or if a partition
was stalled.
"""

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop

from deploy.local.layout import CHECKOUT
from tests.tools.chaos.kills.brokers import start_broker_on_small_disk, start_brokers
from tests.tools.chaos.kills.logs import silence_logs
from tests.tools.chaos.kills.runner import NODES, kill_repeatedly
from tests.tools.chaos.kills.tally import Kill, Kind, Tally, load, report

TALLIES = CHECKOUT / ".pinflow" / "kills"
KILLS_PER_INSTALLATION = {Kind.LONE: 50, Kind.THREE: 50, Kind.PRODUCER: 200, Kind.DISK: 10}
"""The number of kills after which the run starts new, empty brokers. This limits the disk space and
memory that it needs."""


def run(kind: Kind, count: int, tally: Tally, seed: int) -> None:
    """Kills until the tally has `count` kills."""

    def record(kill: Kill) -> None:
        tally.add(kill)
        print(
            f"{kill.kind} {kill.number}: "
            f"{'FAILED ' + '; '.join(kill.details) if kill.failed else 'ok'}",
            flush=True,
        )

    while (done := max((kill.number for kill in tally.kills), default=0)) < count:
        numbers = range(done + 1, 1 + min(count, done + KILLS_PER_INSTALLATION[kind]))
        with ExitStack() as stack:
            if kind is Kind.DISK:
                brokers, disk = stack.enter_context(start_broker_on_small_disk())
            else:
                brokers, disk = (
                    stack.enter_context(start_brokers(NODES if kind is Kind.THREE else 1)),
                    None,
                )
            uvloop.run(kill_repeatedly(kind, brokers, disk, numbers, seed, record))


def main(kind: Kind, count: int, file: Path, seed: int) -> int:
    """Returns the exit code: 0 only if no kill of the tally failed."""
    silence_logs()
    sys.setswitchinterval(0.001)  # the thread that schedules kills must not wait for others
    # The default action of SIGTERM would leave the brokers running
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    tally = Tally(file, kind)
    print(f"{kind}: {len(tally.kills)} of {count} kills in {file}, seed {seed}", flush=True)
    run(kind, count, tally, seed)
    print(report(tally.kills))
    return int(any(kill.failed for kill in tally.kills))


def run_command(arguments: argparse.Namespace) -> int:
    """Runs the kills, or prints the report."""
    if arguments.report:
        kills = load(arguments.report)
        print(report(kills))
        return int(any(kill.failed for kill in kills))
    kind = Kind(arguments.kind)
    file = arguments.tally or TALLIES / f"{kind}.jsonl"
    return main(kind, arguments.count, file, arguments.seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(map(str, Kind)), default=str(Kind.LONE))
    parser.add_argument(
        "--count", type=int, default=10, help="number of kills in the tally at the end"
    )
    parser.add_argument(
        "--tally",
        type=Path,
        help="file with one line for each kill; default: .pinflow/kills/KIND.jsonl",
    )
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="seed of the delays and the imports"
    )
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="only prints the totals of these tallies",
    )
    sys.exit(run_command(parser.parse_args()))
