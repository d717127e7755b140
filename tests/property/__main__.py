"""`make fuzz`: the property tests again and again, each time from another seed, until the time is
up or one fails.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.property.profiles import FUZZING
from tests.property.tally import FILE
from tests.support.infrastructure import postgres_server

HERE = Path(__file__).parent
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "tests.property.tally",
    "--show-capture=no",
    "--timeout=3600",
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.property", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the first round; the next ones count on"
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        default=[str(HERE)],
        help="pytest's: which tests, and how (after --)",
    )
    chosen = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that Postgres is stopped too
    seed = secrets.randbits(32) if chosen.seed is None else chosen.seed
    with tempfile.TemporaryDirectory(prefix="pinflow-fuzz-", ignore_cleanup_errors=True) as name:
        tally = Path(name) / "tally"
        tally.touch()
        with postgres_server(Path(name)) as (postgres, _):
            failed = rounds(
                seed, time.monotonic() + 60 * chosen.minutes, chosen.arguments, tally, postgres.url
            )
        show(tally)
    return failed


def rounds(seed: int, until: float, arguments: list[str], tally: Path, database_url: str) -> int:
    """The exit status of the round that failed, or 0."""
    servers = {
        "PINFLOW_TEST_DATABASE_URL": database_url,
        "PINFLOW_TEST_KAFKA_BOOTSTRAP_SERVERS": "none",
    }  # no property needs a broker
    environment = {**os.environ, FUZZING: "1", FILE: str(tally), **servers}
    while True:
        print(f"== seed {seed}", flush=True)
        ended = subprocess.run(
            [*PYTEST, f"--hypothesis-seed={seed}", *arguments], env=environment, check=False
        )
        if ended.returncode:
            print(
                f"  ended with {ended.returncode}; the same again: .venv/bin/python -m "
                f"tests.property --minutes 0 --seed {seed}"
            )
            return ended.returncode
        if time.monotonic() > until:
            return 0
        seed += 1


def show(tally: Path) -> None:
    examples: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for line in tally.read_text(encoding="utf-8").splitlines():
        name, count, took = json.loads(line)
        examples[name] += count
        seconds[name] += took
    for name, count in examples.most_common():
        if count:
            print(f"  {count:>9} examples {count / seconds[name]:>8.0f}/s  {name}")
    print(f"  {examples.total():>9} in all, in {sum(seconds.values()):.0f} s")


if __name__ == "__main__":
    sys.exit(main())
