"""python -m tests.bench.peers [--seconds N] [--only NAME]: each peer on servers of its own. --install fetches what pip can't."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.conftest import new_workspace
from tests.bench.peers import software
from tests.bench.peers.celery_peer import ROW_BY_ROW, WHOLE_IMPORTS
from tests.bench.peers.direct_peer import DirectPeer
from tests.bench.peers.faststream_peer import FastStreamPeer
from tests.bench.peers.peer import Peer, Servers
from tests.bench.peers.publisher_stage import measure_connect, measure_pinflow
from tests.bench.peers.run import measure
from tests.infrastructure import fresh_database, kafka_server, postgres_server

PEERS: dict[str, Peer] = {"celery-row": ROW_BY_ROW, "celery-import": WHOLE_IMPORTS, "faststream": FastStreamPeer(), "direct": DirectPeer()}
STAGES = {"stage-pinflow": measure_pinflow, "stage-connect": measure_connect}
STAGE_ROWS_PER_SECOND = 20_000
"""A stage is given so many rows for each second that was asked for."""
KAFKA_OPTIONS = ("-Xms1g", "-Xmx1g", "-XX:+UseSerialGC")
POSTGRES_SETTINGS = {"shared_buffers": "512MB"}
"""As tests.bench has them."""


@contextmanager
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="pinflow-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with (
            kafka_server(directory, KAFKA_OPTIONS) as (kafka, broker),
            postgres_server(directory, POSTGRES_SETTINGS) as (postgres, database),
            fresh_database(postgres.url) as url,
        ):
            pids = {"kafka": broker.process.pid, "postgres": database.process.pid}
            yield Servers(kafka.bootstrap_servers, url, new_workspace(url), pids)


def main(names: list[str], seconds: float) -> None:
    with servers() as shared:
        for name in names:
            if name in STAGES:
                figures = STAGES[name](shared, round(seconds * STAGE_ROWS_PER_SECOND))
            else:
                figures = measure(PEERS[name], shared, seconds)
            print(PEERS[name].name if name in PEERS else name)
            for figure, value in figures.items():
                print(f"  {figure:18}", value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", choices=[*PEERS, *STAGES], action="append")
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args(sys.argv[1:])
    if arguments.install:
        software.connect_class_path()
    else:
        main(arguments.only or [*PEERS, *STAGES], arguments.seconds)
