"""Where the session's Kafka and Postgres come from, and how a module gets a database of its own."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from deploy.migrations import migrate

TEMPLATE = "pinflow_test_template"


@dataclass(frozen=True)
class Servers:
    kafka_bootstrap_servers: str
    database_url: str
    """An owner's URL: may create databases and roles."""


@contextmanager
def servers(directory: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(
            os.environ.get("PINFLOW_TEST_KAFKA_BOOTSTRAP_SERVERS") or stack.enter_context(_kafka(directory)),
            os.environ.get("PINFLOW_TEST_DATABASE_URL") or stack.enter_context(_postgres(directory)),
        )


@contextmanager
def fresh_database(stack: Servers) -> Iterator[str]:
    """A copy of a migrated template, which is made once: far quicker than migrating for each module."""
    name = f"pinflow_test_{uuid4().hex[:12]}"
    _ensure_template(stack.database_url)
    _administer(stack.database_url, sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
    try:
        yield with_database(stack.database_url, name)
    finally:
        _administer(stack.database_url, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


_templates: set[str] = set()


def _ensure_template(url: str) -> None:
    if url in _templates:
        return
    _administer(url, sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(TEMPLATE)))
    _administer(url, sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
    migrate(with_database(url, TEMPLATE))
    _templates.add(url)


def _administer(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
