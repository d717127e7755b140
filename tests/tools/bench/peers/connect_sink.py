"""Peer that uses Kafka Connect with Debezium's JDBC sink, which writes a topic to a table."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from deploy.local.ports import choose
from deploy.local.programs import Program
from deploy.local.software import find_java
from tests.support.ports import FIRST_SERVICE_PORT
from tests.support.processes import RunningProgram
from tests.tools.bench.peers import software
from tests.tools.bench.peers.store import COLUMNS

CONNECTOR = "pins"
BATCH = 2000
"""Records per statement and per poll, as for the publisher. The default is 500."""
MISSING_FEATURES = (
    (
        "Needs records with computed ids, flat fields and a known schema, which something else "
        "must prepare; it decides nothing."
    ),
    "No outcomes: nobody learns which rows were created and which existed.",
    (
        "The last of two rows with the same key overwrites the first; in Pinflow the first is kept "
        "forever."
    ),
    (
        "A record that Postgres refuses stops the task until someone restarts it, or, if errors "
        "are tolerated, breaks the batch's order."
    ),
    "No events for consumers, no schedules, no checks of accounts and boards.",
)
JVM_OPTIONS = (
    "-Xms256m",
    "-Xmx2g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
)
"""JVM options of Kafka's own start script for Connect."""

FIELDS = (*COLUMNS, ("state", "text"), ("published_at", "timestamptz"))
_TYPES = {
    "uuid": {"type": "string", "name": "io.debezium.data.Uuid"},
    "timestamptz": {"type": "string", "name": "io.debezium.time.ZonedTimestamp"},
    "int4": {"type": "int32"},
    "text": {"type": "string"},
}
_JSON = {"type": "string", "name": "io.debezium.data.Json"}


def build_schema() -> str:
    """Builds the records' schema, which the converter gets once (needs Kafka 4.2 or newer).

    With the schema in each record, records would be six times as large.
    """
    fields = [
        {"field": name, "optional": True, **(_JSON if name == "related_terms" else _TYPES[kind])}
        for name, kind in FIELDS
    ]
    return json.dumps(
        {"type": "struct", "name": "pin", "optional": False, "fields": fields},
        separators=(",", ":"),
    )


@contextmanager
def run_connect(
    directory: Path, *, kafka: str, topic: str, database_url: str, table: str
) -> Iterator[RunningProgram]:
    """Runs a worker with the connector and waits until its tasks run.

    Raises LocalError without the peer's software.
    """
    port = choose({"connect": FIRST_SERVICE_PORT})["connect"]
    worker, sink = directory / "worker.properties", directory / "sink.properties"
    worker.write_text(
        _format_properties(_build_worker_properties(directory, kafka, port)), encoding="utf-8"
    )
    sink.write_text(
        _format_properties(_build_sink_properties(topic, database_url, table)), encoding="utf-8"
    )
    class_path = software.find_connect_class_path()
    log_option = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    command = (
        find_java(),
        *JVM_OPTIONS,
        log_option,
        "-cp",
        class_path,
        "org.apache.kafka.connect.cli.ConnectStandalone",
        str(worker),
        str(sink),
    )
    running = RunningProgram(Program("connect", command), directory)
    running.start()
    try:
        running.wait_until(lambda: _is_running(port), seconds=120)
        yield running
    finally:
        running.close()


def _build_worker_properties(directory: Path, kafka: str, port: int) -> dict[str, str]:
    return {
        "bootstrap.servers": kafka,
        "listeners": f"http://127.0.0.1:{port}",
        "offset.storage.file.filename": str(directory / "connect.offsets"),
        "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "value.converter.schema.content": build_schema(),
        "consumer.max.poll.records": str(BATCH),
        "consumer.isolation.level": "read_committed",
        "consumer.auto.offset.reset": "earliest",
    }


def _build_sink_properties(topic: str, database_url: str, table: str) -> dict[str, str]:
    url = urlsplit(database_url)
    return {
        "name": CONNECTOR,
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "2",
        "topics": topic,
        "connection.url": (
            f"jdbc:postgresql://{url.hostname}:{url.port}{url.path}?reWriteBatchedInserts=true"
        ),
        "connection.username": url.username or "",
        "connection.password": url.password or "",
        "collection.name.format": table,
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": "pin_id",
        "schema.evolution": "none",
        "batch.size": str(BATCH),
        "use.reduction.buffer": "true",
        "dialect.postgres.unnest.insert.enabled": "true",
    }


def _format_properties(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _is_running(port: int) -> bool:
    try:
        answer = httpx.get(
            f"http://127.0.0.1:{port}/connectors/{CONNECTOR}/status", timeout=2, trust_env=False
        )
    except httpx.TransportError:
        return False
    tasks = answer.json().get("tasks", []) if answer.is_success else []
    if failed := [task["trace"] for task in tasks if task["state"] == "FAILED"]:
        raise AssertionError(f"Kafka Connect's task failed:\n{failed[0][:2000]}")
    return bool(tasks) and all(task["state"] == "RUNNING" for task in tasks)
