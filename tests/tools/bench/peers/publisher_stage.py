"""Compares the publisher's stage with Kafka Connect: both write rows from a topic to a table.

Both get the same rows in their own form (stage_records.py), with the same compression and number of
partitions. The process starts, warms up, and is then paused until the measured rows are produced.
So the figures contain neither its start nor the cost of producing rows.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.ports import choose
from deploy.local.programs import service_program
from shared.contract.events import MAX_ROWS
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.support.deployment import is_live
from tests.support.infrastructure import with_role
from tests.support.kafka import delete_topics
from tests.support.ports import FIRST_SERVICE_PORT
from tests.support.processes import RunningProgram
from tests.tools.bench.bodies import build_json_import, build_realistic_rows, insert_mark, new_mark
from tests.tools.bench.disk_usage import measure_disk_usage
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import measure_usage
from tests.tools.bench.peers.connect_sink import MISSING_FEATURES, run_connect
from tests.tools.bench.peers.peer import TOPIC_PREFIX, PeerServers
from tests.tools.bench.peers.stage_records import (
    RecordBuilder,
    build_flat_rows,
    build_row_events,
    produce,
)
from tests.tools.bench.peers.store import Store
from tests.tools.bench.scenarios.bench import ResourceSnapshot, compute_costs

QUIET_SECONDS = 0.5
"""Time without a change of the table's size after which rows are counted."""
DRAIN_SECONDS = 600.0


@dataclass(frozen=True)
class Stage:
    """A running engine, the table that it fills, and the form of its records."""

    servers: PeerServers
    kafka: KafkaSettings
    program: RunningProgram
    schema: str
    build_records: RecordBuilder

    @property
    def table(self) -> str:
        return f"{self.schema}.pins"


def measure_pinflow(servers: PeerServers, rows: int, warm_up_rows: int) -> Figures:
    """Measures Pinflow's publisher, which also sends outcomes and pin events."""
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-stage-") as directory,
        _create_topics(servers) as kafka,
    ):
        port = choose({"publisher": FIRST_SERVICE_PORT})["publisher"]
        variables = {
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
            "PINFLOW_TOPIC_PREFIX": kafka.topic_prefix,
            "PINFLOW_DATABASE_URL": with_role(servers.database_url, "pinflow_publisher"),
            "PINFLOW_PORT": str(port),
            "PINFLOW_LOG_LEVEL": "WARNING",
        }
        program = RunningProgram(service_program("publisher", variables), Path(directory))
        program.start()
        try:
            program.wait_until(lambda: is_live(f"http://127.0.0.1:{port}"))
            return _measure(
                Stage(servers, kafka, program, "publisher", build_row_events), rows, warm_up_rows
            )
        finally:
            program.close()


def measure_connect(servers: PeerServers, rows: int, warm_up_rows: int) -> Figures:
    """Measures Kafka Connect with Debezium's JDBC sink.

    Raises LocalError without its software.
    """
    schema = "peer_connect"
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-stage-") as directory,
        _create_topics(servers) as kafka,
    ):
        Store(servers.database_url, schema).close()
        topic = TopicNames(kafka.topic_prefix)[TopicName.IMPORTS]
        with run_connect(
            Path(directory),
            kafka=servers.kafka_bootstrap_servers,
            topic=topic,
            database_url=servers.database_url,
            table=f"{schema}.pins",
        ) as program:
            return _measure(
                Stage(servers, kafka, program, schema, build_flat_rows), rows, warm_up_rows
            ) | {"lacks": list(MISSING_FEATURES)}


@contextmanager
def _create_topics(servers: PeerServers) -> Iterator[KafkaSettings]:
    settings = KafkaSettings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=TOPIC_PREFIX
    )
    asyncio.run(create_topics(settings))
    yield settings
    asyncio.run(delete_topics(settings))


def _measure(stage: Stage, rows: int, warm_up_rows: int) -> Figures:
    """Measures how fast the engine stores the rows.

    Raises AssertionError if the number of rows is wrong, or incomplete after DRAIN_SECONDS.
    """
    workspace = stage.servers.workspace
    template = build_json_import(build_realistic_rows(workspace)).template
    warm_up_imports, measured_imports = (
        [
            stage.build_records(workspace.id, insert_mark(template, new_mark()))
            for _ in range(max(1, count // MAX_ROWS))
        ]
        for count in (warm_up_rows, rows)
    )
    with psycopg.connect(stage.servers.database_url, autocommit=True) as connection:
        asyncio.run(produce(stage.kafka, warm_up_imports))
        _wait_for_rows(connection, stage.table, len(warm_up_imports) * MAX_ROWS)
        stage.program.pause()
        asyncio.run(produce(stage.kafka, measured_imports))
        before, started = _take_snapshot(stage), time.perf_counter()
        stage.program.resume()
        elapsed = (
            _wait_for_rows(
                connection, stage.table, (len(warm_up_imports) + len(measured_imports)) * MAX_ROWS
            )
            - started
        )
    figures = compute_costs(
        before, _take_snapshot(stage), len(measured_imports) * MAX_ROWS, elapsed
    )
    largest = max(len(record.value) for records in measured_imports for record in records)
    return {**figures, "bytes_of_a_record_at_most": largest, "exact": 1, "faults": [], "lacks": []}


def _take_snapshot(stage: Stage) -> ResourceSnapshot:
    servers = stage.servers
    disk_usage = measure_disk_usage(
        servers.database_url, servers.kafka_data, stage.kafka.topic_prefix, [stage.schema]
    )
    return ResourceSnapshot(
        measure_usage({**servers.pids, stage.program.program.name: stage.program.process.pid}),
        disk_usage,
        {},
    )


def _wait_for_rows(connection: "psycopg.Connection[Any]", table: str, expected_rows: int) -> float:
    """Returns the time at which the last of `expected_rows` arrived.

    It polls the table's size, which is cheap, and counts rows only when the size no longer changes.
    """
    deadline = time.perf_counter() + DRAIN_SECONDS
    size, changed = -1, time.perf_counter()
    while (now := time.perf_counter()) < deadline:
        if (
            current_size := _read_number(connection, f"select pg_relation_size('{table}')")
        ) != size:
            size, changed = current_size, now
        elif (
            now - changed > QUIET_SECONDS
            and (stored_rows := _read_number(connection, f"select count(*) from {table}"))
            >= expected_rows
        ):
            assert stored_rows == expected_rows, (
                f"{table} has {stored_rows} rows, but {expected_rows} were sent"
            )
            return changed
        time.sleep(0.02)
    raise AssertionError(f"{table} did not get {expected_rows} rows within {DRAIN_SECONDS:.0f} s")


def _read_number(connection: "psycopg.Connection[Any]", statement: str) -> int:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])
