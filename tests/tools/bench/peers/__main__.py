"""python -m tests.tools.bench.peers [--seconds N] [--only NAME]: measures peers only.

--install downloads the software that pip can't install.
"""

import argparse
import sys

from tests.tools.bench import table
from tests.tools.bench.figures import Figures, summarize
from tests.tools.bench.peers import software
from tests.tools.bench.peers.catalogue import PEERS


def main(names: list[str], seconds: float) -> None:
    console = table.create_console()
    results: dict[str, Figures] = {}
    for name in names:
        console.print("Measuring", name)
        results[name] = PEERS[name](seconds, seconds)
    summary = {name: summarize([figures]) for name, figures in results.items()}
    table.print_tables({"summary": summary, "rounds": [results]}, console)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.tools.bench.peers", description=__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=5,
        help="seconds to measure each peer, after a warm-up as long; default: %(default)g",
    )
    parser.add_argument(
        "--only", choices=PEERS, action="append", help="a peer to measure; may be repeated"
    )
    parser.add_argument("--install", action="store_true", help="download Kafka Connect and exit")
    arguments = parser.parse_args(sys.argv[1:])
    if arguments.install:
        software.find_connect_class_path()
    else:
        main(arguments.only or list(PEERS), arguments.seconds)
