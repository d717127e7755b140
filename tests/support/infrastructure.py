"""Starts Kafka and Postgres, and creates topics and a database for each test module."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from deploy.local.kafka import KafkaCluster, NodePorts
from deploy.local.ports import choose
from deploy.local.postgres import Postgres
from deploy.migrations import migrate
from deploy.migrations.runner import ROLES
from shared.contract.topics import TOPICS, TopicNames
from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.support import ports
from tests.support.kafka import delete_topics, wait_until_served
from tests.support.processes import RunningProgram
from tests.support.proxied_kafka import with_proxies

TEMPLATE = "pinflow_test_template"
ROLE_PASSWORD = "for-tests-only"  # pragma: allowlist secret
FAST_JVM_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""JVM options for a fast start. Tests do not measure throughput."""
FAST_POSTGRES_SETTINGS = {"fsync": "off", "shared_buffers": "128MB"}
"""Postgres without fsync. A killed process still loses nothing; a power failure may lose data."""


@dataclass(frozen=True)
class Servers:
    kafka_bootstrap_servers: str
    database_url: str
    """The URL of a role that may create databases and roles."""


@contextmanager
def running_servers(directory: Path) -> Iterator[Servers]:
    """Yields the servers for a test session.

    These are the servers that the environment names. Otherwise it starts servers: containers if
    PINFLOW_TEST_INFRA is `docker`, else programs like those of the local stack.
    """
    docker = os.environ.get("PINFLOW_TEST_INFRA") == "docker"
    with ExitStack() as stack:
        kafka = os.environ.get("PINFLOW_TEST_KAFKA_BOOTSTRAP_SERVERS")
        database = os.environ.get("PINFLOW_TEST_DATABASE_URL")
        yield Servers(
            kafka
            or (
                stack.enter_context(_kafka_container())
                if docker
                else stack.enter_context(kafka_server(directory))[0].bootstrap_servers
            ),
            database
            or (
                stack.enter_context(_postgres_container())
                if docker
                else stack.enter_context(postgres_server(directory))[0].url
            ),
        )


@contextmanager
def kafka_server(
    directory: Path, jvm_options: tuple[str, ...] = FAST_JVM_OPTIONS
) -> Iterator[tuple[KafkaCluster, RunningProgram]]:
    """Starts a broker for the caller alone and waits until it is ready."""
    with kafka_cluster(directory, brokers=1, jvm_options=jvm_options) as (kafka, (broker,)):
        yield kafka, broker


@contextmanager
def kafka_cluster(
    directory: Path,
    *,
    brokers: int = 3,
    jvm_options: tuple[str, ...] = FAST_JVM_OPTIONS,
    proxy_ports: Sequence[int] = (),
) -> Iterator[tuple[KafkaCluster, list[RunningProgram]]]:
    """Starts brokers for the caller alone and waits until they are ready.

    Yields a program for each broker, in the order of the nodes. With `proxy_ports`, one for each
    broker, clients may connect through a proxy: see proxied_kafka.py.
    """
    listeners = ("clients", "controller", *(("proxied",) if proxy_ports else ()))
    chosen = choose(
        {f"{number} {listener}": ports.KAFKA for number in range(brokers) for listener in listeners}
    )
    node_ports = [
        NodePorts(chosen[f"{number} clients"], chosen[f"{number} controller"])
        for number in range(brokers)
    ]
    kafka = KafkaCluster.from_ports(directory, node_ports, jvm_options)
    if proxy_ports:
        proxied = [chosen[f"{number} proxied"] for number in range(brokers)]
        kafka = with_proxies(kafka, proxied, proxy_ports)
    programs = [RunningProgram(program, directory) for program in kafka.prepare()]
    try:
        for program in programs:
            program.start()
        for program in programs:
            program.wait_until(lambda: asyncio.run(kafka.is_ready()))
        yield kafka, programs
    finally:
        for program in programs:
            program.kill() if program.is_alive else None  # its data is no longer needed


@contextmanager
def postgres_server(
    directory: Path, settings: Mapping[str, str] = FAST_POSTGRES_SETTINGS
) -> Iterator[tuple[Postgres, RunningProgram]]:
    """Starts a Postgres for the caller alone and waits until it is ready."""
    port = choose({"postgres": ports.POSTGRES})["postgres"]
    postgres = Postgres(directory / "postgres", port, uuid4().hex, dict(settings))
    running = RunningProgram(postgres.prepare(), directory)
    running.start()
    try:
        running.wait_until(postgres.is_ready)
        yield postgres, running
    finally:
        running.close()
        postgres.remove()


@contextmanager
def _kafka_container() -> Iterator[str]:
    # Needs a Docker engine
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415

    # Without these two settings, transactional producers hang in start() on a single broker
    single_broker = {
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    }
    container = KafkaContainer().with_kraft()
    for name, value in single_broker.items():
        container = container.with_env(name, value)
    with container as kafka:
        yield kafka.get_bootstrap_server()


@contextmanager
def _postgres_container() -> Iterator[str]:
    # Needs a Docker engine
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

    with PostgresContainer("postgres:18", username="pinflow", dbname="pinflow") as postgres:
        yield postgres.get_connection_url(driver=None)


@contextmanager
def fresh_topics(kafka: str, **variables: Any) -> Iterator[str]:
    """Creates all topics under a new prefix, yields the prefix and deletes them.

    Brokers serve all partitions when it yields.
    """
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka, topic_prefix=f"test-{uuid4().hex[:12]}", **variables
    )
    asyncio.run(_create_served_topics(settings))
    yield settings.topic_prefix
    asyncio.run(delete_topics(settings))


async def _create_served_topics(settings: KafkaSettings) -> None:
    await create_topics(settings)
    names = TopicNames(settings.topic_prefix)
    await wait_until_served(
        settings.kafka_bootstrap_servers, [names[topic.name] for topic in TOPICS]
    )


@contextmanager
def fresh_database(owner_url: str) -> Iterator[str]:
    """Yields the URL of a new database with every migration applied.

    It is a copy of a template that is migrated once. That is far faster than migrating a
    database for each module.
    """
    _ensure_template(owner_url)
    with copied_database(owner_url, TEMPLATE) as url:
        yield url


@contextmanager
def copied_database(owner_url: str, template: str = "template1") -> Iterator[str]:
    """Yields the URL of a copy of the template; by default an empty database."""
    name = f"pinflow_test_{uuid4().hex[:12]}"
    _administer(
        owner_url,
        # Without fsync, copied files take a fifth of the time of copied blocks, the default
        sql.SQL("create database {} template {} strategy file_copy").format(
            sql.Identifier(name), sql.Identifier(template)
        ),
    )
    try:
        yield with_database(owner_url, name)
    finally:
        _administer(
            owner_url, sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
        )


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def with_role(url: str, role: str) -> str:
    """Returns the URL of the same database for a service's role."""
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(netloc=f"{role}:{ROLE_PASSWORD}@{parts.hostname}:{parts.port}")
    )


_templates: set[str] = set()


def _ensure_template(url: str) -> None:
    if url in _templates:
        return
    _administer(
        url, sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(TEMPLATE))
    )
    _administer(url, sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
    migrate(with_database(url, TEMPLATE), dict.fromkeys(ROLES, ROLE_PASSWORD))
    _templates.add(url)


def _administer(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
