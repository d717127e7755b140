"""The index of deferred pins is built while the publisher writes, and anew after a failure."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from deploy.migrations import migrate
from tests.support.infrastructure import Servers, copied_database
from tests.support.migrations import migrate_to
from tests.support.waiting import wait_until

BEFORE_INDEX = "0021"
WRITE = "lock table publisher.pins in row exclusive mode"
"""Takes the lock that an insert of a pin takes."""
BUILDS = "select pid from pg_stat_activity where query like '%create index concurrently%' and "
IS_HERE = "datname = current_database() and pid <> pg_backend_pid()"
WAITS_FOR_MIGRATION = "select from pg_stat_activity where query like '%advisory_lock%' and "
IS_VALID = (
    "select indisvalid from pg_index where indexrelid = to_regclass('publisher.pins_deferred')"
)
SECONDS = 40


@pytest.fixture
def url(stack: Servers) -> Iterator[str]:
    """Yields the URL of a database without the index."""
    with copied_database(stack.database_url) as url:
        migrate_to(url, BEFORE_INDEX)
        yield url


@contextmanager
def building(url: str, runs: int = 1) -> Iterator[tuple[psycopg.Connection, list[Future[None]]]]:
    """Runs migrations that wait with the build until the block ends: a transaction has written."""
    with (
        ThreadPoolExecutor(runs) as threads,
        psycopg.connect(url) as writer,
        psycopg.connect(url, autocommit=True) as observer,
    ):
        writer.execute(WRITE)
        futures = [threads.submit(migrate, url)]
        wait_until(lambda: observer.execute(BUILDS + IS_HERE).fetchone())
        futures += [threads.submit(migrate, url) for _ in range(runs - 1)]
        yield observer, futures


def is_valid(connection: psycopg.Connection) -> bool | None:
    row = connection.execute(IS_VALID).fetchone()
    return row[0] if row else None


def test_pins_are_written_while_their_index_is_built(url: str) -> None:
    with building(url) as (observer, (run,)), observer.transaction():
        observer.execute("set local lock_timeout = '5s'")
        observer.execute(WRITE)
        assert not run.done()
    run.result(SECONDS)
    with psycopg.connect(url) as connection:
        assert is_valid(connection)


def test_an_index_whose_build_failed_is_built_again_by_the_next_run(url: str) -> None:
    with building(url) as (observer, (run,)):
        observer.execute(f"select pg_cancel_backend(pid) from ({BUILDS}{IS_HERE}) builds")
        assert run.exception(SECONDS) is not None
        assert is_valid(observer) is False
    migrate(url)
    with psycopg.connect(url) as connection:
        assert is_valid(connection)


def test_a_run_that_waits_for_another_one_does_not_stop_its_build(url: str) -> None:
    with building(url, runs=2) as (observer, runs):
        wait_until(lambda: observer.execute(WAITS_FOR_MIGRATION + IS_HERE).fetchone() is not None)
    for run in runs:
        run.result(SECONDS)
    with psycopg.connect(url) as connection:
        assert is_valid(connection)
