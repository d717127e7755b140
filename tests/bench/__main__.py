"""python -m tests.bench [--seconds N]: rows/s, latencies, CPU and memory of every process. Writes .pinflow/bench/latest.json."""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import uvloop

from deploy.local.layout import CHECKOUT
from shared.events import MAX_ROWS
from shared.messaging.admin import create_topics
from shared.settings import KafkaSettings
from tests.acceptance.conftest import new_workspace
from tests.bench.flood import Flood, summary, unsettled_rows
from tests.bench.load import Load
from tests.bench.measure import Usage, cpu_per_row, percentiles, usage
from tests.deployment import Deployment, deployed
from tests.infrastructure import fresh_database, kafka_server, postgres_server

RESULT = CHECKOUT / ".pinflow" / "bench" / "latest.json"
KAFKA_OPTIONS = ("-Xms1g", "-Xmx1g", "-XX:+UseSerialGC")
"""The heap that Kafka's own start script gives it; the compiler may do its best."""
POSTGRES_SETTINGS = {"shared_buffers": "512MB"}
"""As in the local stack: with fsync."""
CONCURRENCY = 4
MOST_UNSETTLED = 150
"""Imports accepted and not settled: enough to keep every stage busy, a bound for the backlog. More clients only take CPU away."""
WARM_UP_SECONDS = 30.0
"""Before anything is measured. In a broker's first half minute under load its compiler takes 7 µs a row; it must have done by then."""
IDLE_IMPORTS = 60
FLOOD_CLIENTS = 100


class Bench:
    def __init__(self, deployment: Deployment, database_url: str, servers: dict[str, int]) -> None:
        self._deployment = deployment
        self._database_url = database_url
        self._pids = servers | {name: program.process.pid for name, program in deployment.programs.items()}

    def new_load(self) -> Load:
        return Load(self._deployment.base_url, new_workspace(self._database_url))

    def usage(self) -> Usage:
        return usage(self._pids)

    def warm_up(self) -> None:
        uvloop.run(self.new_load().saturate(WARM_UP_SECONDS, CONCURRENCY, MOST_UNSETTLED))

    def sustained(self, seconds: float) -> dict[str, Any]:
        load, before = self.new_load(), self.usage()
        took = uvloop.run(load.saturate(seconds, CONCURRENCY, MOST_UNSETTLED))
        return self._report(load, before, took)

    def half_load(self, seconds: float, rows_per_second: float) -> dict[str, Any]:
        load, before = self.new_load(), self.usage()
        took = uvloop.run(load.pace(seconds, rows_per_second / 2 / MAX_ROWS))
        return self._report(load, before, took)

    def idle(self) -> dict[str, Any]:
        load = self.new_load()
        uvloop.run(load.one_by_one(IDLE_IMPORTS))
        return {"imports": load.imports, "accepted_ms": percentiles(load.accepted), "settled_ms": percentiles(load.settled)}

    def flood(self, seconds: float) -> dict[str, Any]:
        """One workspace at full speed, as many clients as ingest takes and more; another's single imports meanwhile."""
        flood = Flood(self.new_load(), self.new_load())
        self.warm_up()
        ingest = self._deployment.service_url("ingest")
        uvloop.run(flood.run(seconds, FLOOD_CLIENTS, lambda: self.usage().rss_bytes, lambda: unsettled_rows(ingest)))
        return {"seconds": seconds, "clients": FLOOD_CLIENTS, **summary(flood)}

    def _report(self, load: Load, before: Usage, took: float) -> dict[str, Any]:
        rows, after = load.imports * MAX_ROWS, self.usage()
        cpu = {name: round(value, 1) for name, value in cpu_per_row(before, after, rows).items()}
        return {
            "rows": rows,
            "refused": load.refused,
            "seconds": round(took, 1),
            "rows_per_second": round(rows / took),
            "accepted_ms": percentiles(load.accepted),
            "settled_ms": percentiles(load.settled),
            "cpu_us_per_row": cpu | {"all but the generator": round(sum(cpu.values()) - cpu["generator"], 1)},
            "rss_mb": {name: round(size / 2**20) for name, size in after.rss_bytes.items()},
        }


@contextmanager
def installation() -> Iterator[Bench]:
    """Servers and services of the benchmark's own, on free ports, with nothing in them."""
    with tempfile.TemporaryDirectory(prefix="pinflow-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with (
            kafka_server(directory, KAFKA_OPTIONS) as (kafka, broker),
            postgres_server(directory, POSTGRES_SETTINGS) as (postgres, database),
            fresh_database(postgres.url) as url,
        ):
            settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
            asyncio.run(create_topics(settings))
            servers = {"kafka": broker.process.pid, "postgres": database.process.pid}
            with deployed(
                directory, kafka=kafka.bootstrap_servers, database_url=url, topic_prefix=settings.topic_prefix, log_level="WARNING"
            ) as deployment:
                yield Bench(deployment, url, servers)


def flood(seconds: float) -> None:
    with installation() as bench:
        show({"flood": bench.flood(seconds)})


def main(seconds: float) -> None:
    with installation() as bench:
        bench.warm_up()
        report: dict[str, Any] = {"machine": machine(), "idle": bench.idle()}
        report["sustained"] = bench.sustained(seconds)
        report["half load"] = bench.half_load(seconds, report["sustained"]["rows_per_second"])
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def machine() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def show(report: dict[str, Any]) -> None:
    def line(name: str, values: dict[str, Any]) -> None:
        print(f"  {name:22}", "  ".join(f"{key} {value}" for key, value in values.items()))

    for scenario, figures in report.items():
        plain = {name: value for name, value in figures.items() if not isinstance(value, dict)}
        print(scenario)
        line("", plain)
        for name, values in figures.items():
            if isinstance(values, dict):
                line(name, values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of each loaded scenario")
    parser.add_argument("--flood", action="store_true", help="only the flood: one workspace at full speed, another's latency meanwhile")
    arguments = parser.parse_args(sys.argv[1:])
    flood(arguments.seconds) if arguments.flood else main(arguments.seconds)
