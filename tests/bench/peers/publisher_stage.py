"""The publisher's stage alone, against a native engine: equal rows stand on a topic; how fast do they come into the table?

Either has its records in the form it needs: Pinflow's publisher the row events that ingest writes, Connect flat JSON with the computed
id. Both are compressed alike, spread over as many partitions. Started and warmed up, a process is stopped for as long as the rows are
produced, so that neither start-up nor producing is in the figure.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import psycopg
from aiokafka import AIOKafkaProducer

from deploy.local.ports import choose
from deploy.local.programs import service
from services.ingest.identity import new_job_id
from services.ingest.service import Import, records_of
from shared.events import MAX_ROWS, SourceType
from shared.messaging.admin import create_topics, delete_topics
from shared.messaging.records import MAX_BATCH_BYTES, Record, append_records, partition_count
from shared.settings import KafkaSettings
from shared.topics import TopicName, TopicNames
from tests.acceptance.conftest import new_workspace
from tests.bench.load import TAG, rows_like_a_shops
from tests.bench.measure import cpu_per_row, usage
from tests.bench.peers import connect_sink, rows
from tests.bench.peers.peer import Servers
from tests.bench.peers.store import Store
from tests.deployment import answers
from tests.infrastructure import fresh_database, with_role
from tests.ports import SERVICES_FROM
from tests.processes import RunningProgram

QUIET_SECONDS = 0.5
DRAIN_SECONDS = 600.0

Form = Callable[[Import], Iterable[Record]]


def measure_pinflow(servers: Servers, count: int, *, warm_up: int | None = None) -> dict[str, Any]:
    """`count` rows, after `warm_up` others (half as many, unless said). Outcomes and pin events are made, too."""
    with _topic(servers, "stage-pinflow") as settings, _place(servers) as (directory, url):
        port = choose({"publisher": SERVICES_FROM})["publisher"]
        variables = {
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
            "PINFLOW_TOPIC_PREFIX": settings.topic_prefix,
            "PINFLOW_DATABASE_URL": with_role(url, "pinflow_publisher"),
            "PINFLOW_PORT": str(port),
            "PINFLOW_LOG_LEVEL": "WARNING",
        }
        program = RunningProgram(service("publisher", variables), directory)
        program.start()
        try:
            program.wait_until(lambda: answers(f"http://127.0.0.1:{port}"))
            return _measure(servers, program, settings, _row_events, url, "publisher.pins", count, warm_up)
        finally:
            program.close()


def measure_connect(servers: Servers, count: int, *, warm_up: int | None = None) -> dict[str, Any]:
    """The same for Kafka Connect with Debezium's JDBC sink."""
    with _topic(servers, "stage-connect") as settings, _place(servers) as (directory, url):
        store = Store(url, "peer_connect")
        topic = TopicNames(settings.topic_prefix)[TopicName.ROWS]
        try:
            with connect_sink.connect(
                directory, kafka=servers.kafka_bootstrap_servers, topic=topic, database_url=url, table="peer_connect.pins"
            ) as program:
                figures = _measure(servers, program, settings, _flat_rows, url, "peer_connect.pins", count, warm_up)
                return figures | {"lacks": list(connect_sink.LACKS)}
        finally:
            store.close()


@contextmanager
def _topic(servers: Servers, prefix: str) -> Iterator[KafkaSettings]:
    settings = KafkaSettings(kafka_bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=prefix)
    asyncio.run(create_topics(settings))
    yield settings
    asyncio.run(delete_topics(settings))


@contextmanager
def _place(servers: Servers) -> Iterator[tuple[Path, str]]:
    """A folder, and a database in which nothing stands: what a table and its indexes hold is a part of what an insert costs."""
    with (
        tempfile.TemporaryDirectory(prefix="pinflow-stage-", ignore_cleanup_errors=True) as name,
        fresh_database(servers.database_url) as url,
    ):
        yield Path(name), url


def _measure(
    servers: Servers,
    program: RunningProgram,
    settings: KafkaSettings,
    form: Form,
    url: str,
    table: str,
    count: int,
    warm_up: int | None,
) -> dict[str, Any]:
    """Raises AssertionError when not all rows have come within DRAIN_SECONDS."""
    before_it = count // 2 if warm_up is None else warm_up
    body = orjson.dumps(rows_like_a_shops(new_workspace(url)))
    with psycopg.connect(url, autocommit=True) as connection:
        workspace = connection.execute("select id from access.workspaces").fetchone()
        assert workspace is not None
        imports = [_import(workspace[0], body) for _ in range((before_it + count) // MAX_ROWS)]
        warm = imports[: before_it // MAX_ROWS]
        asyncio.run(_produce(settings, [form(one) for one in warm]))
        _wait_for_rows(connection, table, len(warm) * MAX_ROWS)
        measured = [list(form(one)) for one in imports[len(warm) :]]
        program.pause()
        asyncio.run(_produce(settings, measured))
        pids = {**servers.pids, program.program.name: program.process.pid}
        before, started = usage(pids), time.perf_counter()
        program.resume()
        took = _wait_for_rows(connection, table, len(imports) * MAX_ROWS) - started
    after, number = usage(pids), len(measured) * MAX_ROWS
    cpu = {name: round(value, 1) for name, value in cpu_per_row(before, after, number).items() if name != "generator"}
    return {
        "rows": number,
        "seconds": round(took, 1),
        "rows_per_second": round(number / took),
        "bytes_per_record": round(sum(len(record.value) for records in measured for record in records) / number),
        "cpu_us_per_row": cpu | {"all": round(sum(cpu.values()), 1)},
        "rss_mb": {name: round(size / 2**20) for name, size in after.rss_bytes.items() if name != "generator"},
    }


def _import(workspace_id: Any, body: bytes) -> Import:
    now = datetime.now(UTC)
    parsed = rows.parse(body.replace(TAG, uuid4().hex[:16].encode()))
    return Import(new_job_id(now), workspace_id, now, SourceType.JSON, None, parsed)


def _row_events(one: Import) -> Sequence[Record]:
    return records_of(one)[TopicName.ROWS]


def _flat_rows(one: Import) -> Iterator[Record]:
    names = [name for name, _ in connect_sink.FIELDS]
    for values in rows.values(one.workspace_id, one.job_id, one.accepted_at, rows.sent(one.rows)):
        document = zip(names, (*values, "published", one.accepted_at), strict=True)
        yield Record(None, orjson.dumps({name: value for name, value in document if value is not None}))


async def _produce(settings: KafkaSettings, groups: Sequence[Iterable[Record]]) -> None:
    """An import's records to one partition, imports in turn to all."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        acks="all",
        compression_type="snappy",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=2 * MAX_BATCH_BYTES,
    )
    topic = TopicNames(settings.topic_prefix)[TopicName.ROWS]
    async with producer:
        partitions = await partition_count(producer, topic)
        for number, group in enumerate(groups):
            await asyncio.gather(*await append_records(producer, topic, number % partitions, group))


def _wait_for_rows(connection: "psycopg.Connection[Any]", table: str, wanted: int) -> float:
    """When the last of so many rows came. Seen from the table's size, which costs nothing to ask for; counted only once that rests."""
    deadline = time.perf_counter() + DRAIN_SECONDS
    size, changed = -1, time.perf_counter()
    while (now := time.perf_counter()) < deadline:
        if (seen := _number(connection, f"select pg_relation_size('{table}')")) != size:
            size, changed = seen, now
        elif now - changed > QUIET_SECONDS and (found := _number(connection, f"select count(*) from {table}")) >= wanted:
            assert found == wanted, f"{found} rows in {table}, {wanted} were sent"
            return changed
        time.sleep(0.02)
    raise AssertionError(f"not {wanted} rows in {table} within {DRAIN_SECONDS:.0f} s")


def _number(connection: "psycopg.Connection[Any]", statement: str) -> int:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])
