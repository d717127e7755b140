"""python -m tests.tools.bench.peers [--seconds N] [--only NAME]: peers by themselves. --install
fetches what pip can't.
"""

import argparse
import sys

from tests.tools.bench import table
from tests.tools.bench.figures import Figures, summarised
from tests.tools.bench.peers import software
from tests.tools.bench.peers.catalogue import PEERS


def main(names: list[str], seconds: float) -> None:
    console = table.console()
    found: dict[str, Figures] = {}
    for name in names:
        console.print("measuring", name)
        found[name] = PEERS[name](seconds, seconds)
    table.show(
        {"summary": {name: summarised([figures]) for name, figures in found.items()}}, console
    )
    for name, figures in found.items():
        console.print(
            f"\n{name}",
            *(f"  NOT EXACT: {fault}" for fault in figures["faults"]),
            "  does not give:",
            sep="\n",
        )
        console.print(*(f"  - {lack}" for lack in figures["lacks"]), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.tools.bench.peers", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=5, help="of each, after a warm-up of as many"
    )
    parser.add_argument("--only", choices=PEERS, action="append")
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args(sys.argv[1:])
    if arguments.install:
        software.connect_class_path()
    else:
        main(arguments.only or list(PEERS), arguments.seconds)
