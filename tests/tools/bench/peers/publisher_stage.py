"""(e) The publisher's stage alone, against a native engine: equal rows stand on a topic; how fast
do they come into the table?

Either has its records in the form it needs (stage_records.py), compressed alike, in as many
partitions. Started and warmed up, a process is stopped for as long as the rows are produced, so
that neither its start nor producing is in the figures.
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
from tests.tools.bench.bodies import json_body, marked, new_mark, rows_like_a_shops
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import usage
from tests.tools.bench.peers.connect_sink import LACKS, connect
from tests.tools.bench.peers.peer import TOPIC_PREFIX, Servers
from tests.tools.bench.peers.stage_records import Form, flat_rows, produce, row_events
from tests.tools.bench.peers.store import Store
from tests.tools.bench.scenarios.bench import Seen, costs
from tests.tools.bench.space import space

QUIET_SECONDS = 0.5
DRAIN_SECONDS = 600.0


@dataclass(frozen=True)
class Stage:
    """An engine that runs, the table it fills, and the form of its records."""

    servers: Servers
    kafka: KafkaSettings
    program: RunningProgram
    schema: str
    form: Form

    @property
    def table(self) -> str:
        return f"{self.schema}.pins"


def measure_pinflow(servers: Servers, rows: int, warm_up_rows: int) -> Figures:
    """Pinflow's publisher: outcomes and pin events are made, too."""
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-stage-") as directory,
        _topics(servers) as kafka,
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
                Stage(servers, kafka, program, "publisher", row_events), rows, warm_up_rows
            )
        finally:
            program.close()


def measure_connect(servers: Servers, rows: int, warm_up_rows: int) -> Figures:
    """Kafka Connect with Debezium's JDBC sink. Raises LocalError without its software."""
    schema = "peer_connect"
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-stage-") as directory,
        _topics(servers) as kafka,
    ):
        Store(servers.database_url, schema).close()
        topic = TopicNames(kafka.topic_prefix)[TopicName.IMPORTS]
        with connect(
            Path(directory),
            kafka=servers.kafka_bootstrap_servers,
            topic=topic,
            database_url=servers.database_url,
            table=f"{schema}.pins",
        ) as program:
            return _measure(
                Stage(servers, kafka, program, schema, flat_rows), rows, warm_up_rows
            ) | {"lacks": list(LACKS)}


@contextmanager
def _topics(servers: Servers) -> Iterator[KafkaSettings]:
    settings = KafkaSettings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=TOPIC_PREFIX
    )
    asyncio.run(create_topics(settings))
    yield settings
    asyncio.run(delete_topics(settings))


def _measure(stage: Stage, rows: int, warm_up_rows: int) -> Figures:
    """Raises AssertionError when there are other rows in the end, or not all of them within
    DRAIN_SECONDS.
    """
    workspace = stage.servers.workspace
    prepared = json_body(rows_like_a_shops(workspace)).prepared
    warm, measured = (
        [
            stage.form(workspace.id, marked(prepared, new_mark()))
            for _ in range(max(1, count // MAX_ROWS))
        ]
        for count in (warm_up_rows, rows)
    )
    with psycopg.connect(stage.servers.database_url, autocommit=True) as connection:
        asyncio.run(produce(stage.kafka, warm))
        _wait_for_rows(connection, stage.table, len(warm) * MAX_ROWS)
        stage.program.pause()
        asyncio.run(produce(stage.kafka, measured))
        before, started = _look(stage), time.perf_counter()
        stage.program.resume()
        took = (
            _wait_for_rows(connection, stage.table, (len(warm) + len(measured)) * MAX_ROWS)
            - started
        )
    figures = costs(before, _look(stage), len(measured) * MAX_ROWS, took)
    largest = max(len(record.value) for records in measured for record in records)
    return {**figures, "bytes_of_a_record_at_most": largest, "exact": 1, "faults": [], "lacks": []}


def _look(stage: Stage) -> Seen:
    servers = stage.servers
    found = space(
        servers.database_url, servers.kafka_data, stage.kafka.topic_prefix, [stage.schema]
    )
    return Seen(
        usage({**servers.pids, stage.program.program.name: stage.program.process.pid}), found, {}
    )


def _wait_for_rows(connection: "psycopg.Connection[Any]", table: str, wanted: int) -> float:
    """When the last of so many rows came.

    Seen from the table's size, which costs nothing to ask for; counted only once that rests.
    """
    deadline = time.perf_counter() + DRAIN_SECONDS
    size, changed = -1, time.perf_counter()
    while (now := time.perf_counter()) < deadline:
        if (seen := _number(connection, f"select pg_relation_size('{table}')")) != size:
            size, changed = seen, now
        elif (
            now - changed > QUIET_SECONDS
            and (found := _number(connection, f"select count(*) from {table}")) >= wanted
        ):
            assert found == wanted, f"{found} rows in {table}, {wanted} were sent"
            return changed
        time.sleep(0.02)
    raise AssertionError(f"not {wanted} rows in {table} within {DRAIN_SECONDS:.0f} s")


def _number(connection: "psycopg.Connection[Any]", statement: str) -> int:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])
