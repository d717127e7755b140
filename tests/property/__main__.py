"""Repeats the property tests with new seeds until the time is up or a test fails (`make fuzz`)."""

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
    parser.add_argument("--minutes", type=float, default=10, help="time limit")
    parser.add_argument(
        "--seed", type=int, default=None, help="seed of the first round; each next round adds 1"
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        default=[str(HERE)],
        help="arguments for pytest, after --",
    )
    options = parser.parse_args()
    # A graceful exit also stops Postgres
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="pinflow-fuzz-", ignore_cleanup_errors=True) as name:
        tally = Path(name) / "tally"
        tally.touch()
        with postgres_server(Path(name)) as (postgres, _):
            status = run_rounds(
                seed,
                time.monotonic() + 60 * options.minutes,
                options.arguments,
                tally,
                postgres.url,
            )
        print_tally(tally)
    return status


def run_rounds(
    seed: int, deadline: float, arguments: list[str], tally: Path, database_url: str
) -> int:
    """Runs rounds until the deadline. Returns the exit status of the failed round, or 0."""
    # No property test needs a broker
    servers = {
        "PINFLOW_TEST_DATABASE_URL": database_url,
        "PINFLOW_TEST_KAFKA_BOOTSTRAP_SERVERS": "none",
    }
    environment = {**os.environ, FUZZING: "1", FILE: str(tally), **servers}
    while True:
        print(f"== seed {seed}", flush=True)
        result = subprocess.run(
            [*PYTEST, f"--hypothesis-seed={seed}", *arguments], env=environment, check=False
        )
        if result.returncode:
            print(
                f"  failed with {result.returncode}. Repeat it with: .venv/bin/python -m "
                f"tests.property --minutes 0 --seed {seed}"
            )
            return result.returncode
        if time.monotonic() > deadline:
            return 0
        seed += 1


def print_tally(tally: Path) -> None:
    examples: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for line in tally.read_text(encoding="utf-8").splitlines():
        name, count, duration = json.loads(line)
        examples[name] += count
        seconds[name] += duration
    for name, count in examples.most_common():
        if count:
            print(f"  {count:>9} examples {count / seconds[name]:>8.0f}/s  {name}")
    print(f"  {examples.total():>9} in total, in {sum(seconds.values()):.0f} s")


if __name__ == "__main__":
    sys.exit(main())
