"""Tests the helpers that restore a server to an earlier state."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import create_topics
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.runtime.settings import KafkaSettings
from tests.support.infrastructure import kafka_server, postgres_server
from tests.support.kafka import read_cluster_id, read_records
from tests.support.restores import recreate, restore, snapshot
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_restored_postgres_has_what_was_committed_before_the_snapshot(tmp_path: Path) -> None:
    with postgres_server(tmp_path) as (postgres, program):
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("create table entries (number bigint)")
        with writing(postgres.url) as written:
            wait_until(lambda: len(written) > 100)
            before = len(written)
            copy = snapshot(program)
            after = len(written)
            wait_until(lambda: len(written) > after + 100)
        for _ in range(2):  # the copy can be used again
            restore(program, copy)
            program.wait_until(postgres.is_ready)
            numbers = read_numbers(postgres.url)
            assert numbers == list(range(len(numbers)))
            assert before <= len(numbers) <= after + 1
            with writing(postgres.url, first=len(numbers)) as written_since:
                wait_until(lambda: len(written_since) > 10)


@contextmanager
def writing(url: str, *, first: int = 0) -> Iterator[list[int]]:
    """Inserts numbers in a thread. Yields those whose commit was acknowledged."""
    written: list[int] = []
    stopping = threading.Event()

    def insert_numbers() -> None:
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(url, autocommit=True) as connection,
        ):
            while not stopping.is_set():
                connection.execute("insert into entries values (%s)", (first + len(written),))
                written.append(first + len(written))

    thread = threading.Thread(target=insert_numbers)
    thread.start()
    try:
        yield written
    finally:
        stopping.set()
        thread.join()


def read_numbers(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("select number from entries order by 1")]


def test_a_restored_kafka_has_its_earlier_end_and_a_recreated_one_is_another_cluster(
    tmp_path: Path,
) -> None:
    with kafka_server(tmp_path) as (kafka, program):
        settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap_servers, topic_prefix="t")
        asyncio.run(create_topics(settings))
        asyncio.run(produce(settings, b"before"))
        cluster_id = asyncio.run(read_cluster_id(settings.kafka_bootstrap_servers))
        copy = snapshot(program)
        asyncio.run(produce(settings, b"after"))
        restore(program, copy)
        program.wait_until(lambda: asyncio.run(kafka.is_ready()))
        assert asyncio.run(read_values(settings)) == [b"before"]
        assert asyncio.run(read_cluster_id(settings.kafka_bootstrap_servers)) == cluster_id
        recreate(program, kafka)
        program.wait_until(lambda: asyncio.run(kafka.is_ready()))
        asyncio.run(create_topics(settings))
        assert asyncio.run(read_values(settings)) == []
        assert asyncio.run(read_cluster_id(settings.kafka_bootstrap_servers)) != cluster_id


async def produce(settings: KafkaSettings, value: bytes) -> None:
    producer = RecordProducer(settings, client_id="tests")
    await producer.start()
    await producer.send(
        TopicNames(settings.topic_prefix)[TopicName.OUTCOMES],
        [Record(b"k", value)],
    )
    await producer.stop()


async def read_values(settings: KafkaSettings) -> list[bytes | None]:
    records = await read_records(
        settings.kafka_bootstrap_servers,
        settings.topic_prefix,
        TopicName.OUTCOMES,
    )
    return [record.value for record in records]
