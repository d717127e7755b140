"""python -m tests.tools.bench: measures the pipeline, the limits of its parts, and its peers.

Reports rows/s, latencies, CPU, bytes and memory.
"""

import argparse
import sys
from collections.abc import Collection
from functools import partial

from deploy.local.layout import LocalError
from tests.tools.bench import plots, table
from tests.tools.bench.cores import split_cores
from tests.tools.bench.flood_command import run_flood
from tests.tools.bench.installation import DeploymentShape
from tests.tools.bench.limits import LIMITS
from tests.tools.bench.machine import describe_environment
from tests.tools.bench.peers.catalogue import PEERS
from tests.tools.bench.peers.software import require_installed
from tests.tools.bench.report import RESULTS, build_report, build_report_path, write
from tests.tools.bench.rounds import BenchRun, ExtraMeasurement
from tests.tools.bench.scenarios import ALL_SCENARIOS, DEFAULT_SCENARIOS, LONG_SCENARIOS
from tests.tools.bench.scenarios.bench import Lengths

DEFAULT_NAMES = (*DEFAULT_SCENARIOS, *LIMITS, *PEERS)
NAMES = (*ALL_SCENARIOS, *LIMITS, *PEERS)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.bench", description=__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=Lengths.seconds,
        help="duration of each scenario under load, in seconds; default: %(default)g",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="number of times to measure everything; the report has medians",
    )
    parser.add_argument(
        "--only",
        type=lambda names: names.split(","),
        help=f"names to measure, separated by commas: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--backlog",
        type=int,
        metavar="ROWS",
        help="measure the drain of a backlog of ROWS rows (alone, or with --only)",
    )
    parser.add_argument(
        "--grow",
        type=int,
        metavar="ROWS",
        help="measure CPU per row while the store grows to ROWS publications",
    )
    parser.add_argument(
        "--soak",
        type=float,
        metavar="MINUTES",
        help="measure MINUTES of half load, with memory over time",
    )
    parser.add_argument(
        "--catalogue",
        type=int,
        metavar="PINS",
        help="measure every list with PINS pins in the store",
    )
    parser.add_argument(
        "--replicas", type=int, default=1, metavar="N", help="number of replicas of each service"
    )
    parser.add_argument(
        "--pin",
        action="store_true",
        help="run services on one half of the cores, servers and load generator on the other",
    )
    parser.add_argument(
        "--delivery",
        action="store_true",
        help="also run the delivery process, although no account is connected",
    )
    parser.add_argument(
        "--flood",
        action="store_true",
        help="measure only a flood: one workspace at full speed, and the latency of another",
    )
    parser.set_defaults(cores=None)
    arguments = parser.parse_args(argv)
    if arguments.pin:
        try:
            arguments.cores = split_cores()
        except ValueError as error:
            parser.error(f"--pin: {error}")
    if arguments.flood and (arguments.pin or arguments.replicas > 1):
        parser.error(
            "--flood runs one replica of each service on all cores: omit --pin and --replicas."
        )
    if unknown := set(arguments.only or ()) - set(NAMES):
        parser.error(
            f"--only: unknown {', '.join(sorted(unknown))}. Choose from {', '.join(NAMES)}."
        )
    return arguments


def build_run(arguments: argparse.Namespace) -> BenchRun:
    """Chooses what to measure: `--only`, the options of long scenarios, or else the default."""
    requested = {
        "backlog": arguments.backlog,
        "growth": arguments.grow,
        "soak": arguments.soak,
        "catalogue": arguments.catalogue,
    }
    long_names = [name for name in LONG_SCENARIOS if requested[name] is not None]
    names = [*(arguments.only or (() if long_names else DEFAULT_NAMES)), *long_names]
    lengths = Lengths(
        seconds=arguments.seconds,
        backlog_rows=arguments.backlog or Lengths.backlog_rows,
        grow_rows=arguments.grow or Lengths.grow_rows,
        soak_minutes=arguments.soak or Lengths.soak_minutes,
        catalogue_pins=arguments.catalogue or Lengths.catalogue_pins,
    )
    run = BenchRun(
        lengths,
        [name for name in ALL_SCENARIOS if name in names],
        [name for name in LIMITS if name in names],
        shape=DeploymentShape(arguments.replicas, arguments.cores, arguments.delivery),
    )
    run.extra_measurements = choose_peers(names, lengths, run)
    return run


def choose_peers(names: Collection[str], lengths: Lengths, run: BenchRun) -> list[ExtraMeasurement]:
    """Returns the chosen peers. Without their software it prints a notice and returns none."""
    chosen = [name for name in PEERS if name in names]
    try:
        require_installed()
    except LocalError as error:
        if chosen:
            run.console.print(f"Peers are not measured ({', '.join(chosen)}). {error}")
        return []
    return [
        ExtraMeasurement(name, partial(PEERS[name], lengths.short_seconds, lengths.warm_up_seconds))
        for name in chosen
    ]


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    if arguments.flood:
        run_flood(arguments.seconds)
        return
    run, environment, file = build_run(arguments), describe_environment(), build_report_path()
    run.on_progress = lambda: write(build_report(run, environment), file)
    run.run_rounds(arguments.rounds)
    report = build_report(run, environment)
    write(report, file)
    table.print_tables(report, run.console)
    plot_files = plots.draw(report, RESULTS, file.stem)
    run.console.print("Written:", file, *plot_files, sep="\n", soft_wrap=True)
    if run.faults:
        raise SystemExit("\n".join(["Some measurements failed:", *run.faults]))


if __name__ == "__main__":
    main(sys.argv[1:])
