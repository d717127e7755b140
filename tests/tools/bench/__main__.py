"""python -m tests.tools.bench: rows/s, latencies, CPU, bytes and memory of the whole pipeline, of
its limits and of its peers.
"""

import argparse
import sys
from collections.abc import Collection
from functools import partial

from deploy.local.layout import LocalError
from tests.tools.bench import plots, table
from tests.tools.bench.cores import halves
from tests.tools.bench.flooding import flood
from tests.tools.bench.installation import Shape
from tests.tools.bench.limits import LIMITS
from tests.tools.bench.machine import environment
from tests.tools.bench.peers.catalogue import PEERS
from tests.tools.bench.peers.software import require_installed
from tests.tools.bench.report import RESULTS, new_file, report_of, write
from tests.tools.bench.rounds import Measurable, Run
from tests.tools.bench.scenarios import ALL, LONG, USUAL
from tests.tools.bench.scenarios.bench import Lengths

USUAL_NAMES = (*USUAL, *LIMITS, *PEERS)
NAMES = (*ALL, *LIMITS, *PEERS)


def arguments_of(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.bench", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=Lengths.seconds, help="length of each loaded scenario"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="how often all is measured, one after the other; medians are reported",
    )
    parser.add_argument(
        "--only",
        type=lambda names: names.split(","),
        help=f"some of {', '.join(NAMES)}; with commas",
    )
    parser.add_argument(
        "--backlog",
        type=int,
        metavar="ROWS",
        help="rows that wait for the publisher (alone, or with --only)",
    )
    parser.add_argument(
        "--grow", type=int, metavar="ROWS", help="publications up to which CPU a row is looked at"
    )
    parser.add_argument(
        "--soak", type=float, metavar="MINUTES", help="of half load, with memory over time"
    )
    parser.add_argument(
        "--catalogue",
        type=int,
        metavar="PINS",
        help="that stand in the store while every list is asked for",
    )
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="of each service")
    parser.add_argument(
        "--pin",
        action="store_true",
        help="services on one half of the cores, servers and the generator on the other",
    )
    parser.add_argument(
        "--flood",
        action="store_true",
        help="only the flood: one workspace at full speed, another's latency meanwhile",
    )
    parser.set_defaults(cores=None)
    arguments = parser.parse_args(given)
    if arguments.pin:
        try:
            arguments.cores = halves()
        except ValueError as error:
            parser.error(f"--pin: {error}")
    if arguments.flood and (arguments.pin or arguments.replicas > 1):
        parser.error("--flood is of one of each service on all cores")
    if unknown := set(arguments.only or ()) - set(NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return arguments


def run_of(arguments: argparse.Namespace) -> Run:
    """What was asked for: by name, by a long scenario's own option, or else the usual."""
    asked = {
        "backlog": arguments.backlog,
        "growth": arguments.grow,
        "soak": arguments.soak,
        "catalogue": arguments.catalogue,
    }
    long = [name for name in LONG if asked[name] is not None]
    names = [*(arguments.only or (() if long else USUAL_NAMES)), *long]
    lengths = Lengths(
        seconds=arguments.seconds,
        backlog_rows=arguments.backlog or Lengths.backlog_rows,
        grow_rows=arguments.grow or Lengths.grow_rows,
        soak_minutes=arguments.soak or Lengths.soak_minutes,
        catalogue_pins=arguments.catalogue or Lengths.catalogue_pins,
    )
    run = Run(
        lengths,
        [name for name in ALL if name in names],
        [name for name in LIMITS if name in names],
        shape=Shape(arguments.replicas, arguments.cores),
    )
    run.others = peers_of(names, lengths, run)
    return run


def peers_of(names: Collection[str], lengths: Lengths, run: Run) -> list[Measurable]:
    """None of them, when their software isn't there; which is said."""
    chosen = [name for name in PEERS if name in names]
    try:
        require_installed()
    except LocalError as error:
        if chosen:
            run.console.print(f"without {', '.join(chosen)}: {error}")
        return []
    return [
        Measurable(name, partial(PEERS[name], lengths.short, lengths.warm_up_seconds))
        for name in chosen
    ]


def main(given: list[str]) -> None:
    arguments = arguments_of(given)
    if arguments.flood:
        flood(arguments.seconds)
        return
    run, about, file = run_of(arguments), environment(), new_file()
    run.noted = lambda: write(report_of(run, about), file)
    run.go(arguments.rounds)
    report = report_of(run, about)
    write(report, file)
    table.show(report, run.console)
    drawn = plots.draw(report, RESULTS, file.stem)
    run.console.print("written:", file, *drawn, sep="\n", soft_wrap=True)
    if run.faults:
        raise SystemExit("\n".join(["not measured:", *run.faults]))


if __name__ == "__main__":
    main(sys.argv[1:])
