"""Transactions on a real Postgres: the meaning of its errors, sessions in UTC, and lost peers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from psycopg.errors import CheckViolation, NotNullViolation
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.contract.errors import DatabaseUnavailable, ValueRejected
from shared.postgres import database as database_module
from shared.postgres import liveness
from shared.postgres.database import Database, connection_options, driver_connection
from shared.runtime.settings import DatabaseSettings

LAST_MOMENT = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)


@asynccontextmanager
async def connected(url: str, *options: str, seconds: float = 10) -> AsyncIterator[Database]:
    """Connects with an operator's options in the URL. `seconds` is the timeout for an answer."""
    parameters = (
        f"?options={quote(' '.join(f'-c {option}' for option in options))}" if options else ""
    )
    database = Database.from_settings(
        DatabaseSettings(
            database_url=SecretStr(url + parameters), database_timeout_seconds=seconds
        ),
        application="tests",
    )
    try:
        yield database
    finally:
        await database.dispose()


def count_pings(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Returns a list that gets an item with each ping of the pool."""
    dialect, pings = database.engine.sync_engine.dialect, list[object]()
    ping = dialect.do_ping

    def count(connection: Any) -> bool:
        pings.append(connection)
        return ping(connection)

    monkeypatch.setattr(dialect, "do_ping", count)
    return pings


async def end_sessions(database: Database, process_ids: Sequence[int]) -> None:
    """Closes sessions as a restart of Postgres does, and waits until they are gone."""
    wait = text("select pg_terminate_backend(pid, 10000) from unnest(cast(:pids as int[])) pid")
    assert all(
        row["pg_terminate_backend"]
        for row in await database.fetch_all(wait.bindparams(pids=list(process_ids)))
    )


async def pipelined(database: Database, statement: str, *values: object) -> None:
    async with database.pipeline() as driver:
        await driver.execute(statement.encode(), values or None)
        await driver.commit()


async def test_a_server_east_of_utc_returns_the_last_moment_of_the_year_9999(
    database_url: str,
) -> None:
    """Python does not support the year 10000, which this moment has in the server's time zone.
    Reading it would fail after the commit.
    """
    async with connected(database_url, "timezone=Asia/Tokyo") as database:
        row = await database.fetch_first(
            text("select cast(:at as timestamptz) as at").bindparams(at=LAST_MOMENT)
        )
        assert row == {"at": LAST_MOMENT}


async def test_options_in_the_url_apply_together_with_ours(database_url: str) -> None:
    async with connected(database_url, "lock_timeout=77s", "work_mem=5MB") as database:
        shown = [
            await database.fetch_first(text(f"select current_setting('{name}') as value"))
            for name in ("lock_timeout", "work_mem", "timezone")
        ]
    assert shown == [{"value": "77s"}, {"value": "5MB"}, {"value": "UTC"}]


async def test_invariant_9_a_canceled_statement_is_transient(database_url: str) -> None:
    async with connected(database_url, "statement_timeout=50ms") as database:
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await database.fetch_first(text("select pg_sleep(5)"))


@pytest.mark.parametrize(
    ("values", "violation"),
    [("null, 1, 2", NotNullViolation), ("'queued', 1, 1", CheckViolation)],
    ids=["not-null", "check"],
)
async def test_invariant_9_a_constraint_violation_does_not_reject_the_value(
    database: Database, values: str, violation: type[Exception]
) -> None:
    """An older release with a newer schema must not fail rows: they wait, as for a bug."""
    statement = (
        "insert into status.jobs (job_id, workspace_id, status, total_rows, created_rows) values "
        f"(%s, %s, {values})"
    )
    with pytest.raises(violation):
        await pipelined(database, statement, uuid4(), uuid4())


@pytest.mark.parametrize(
    "value", ["'9999999-01-01'::timestamptz", "repeat('x', 3000)::uuid", "1::int2 * 40000::int2"]
)
async def test_an_impossible_value_is_rejected(database: Database, value: str) -> None:
    with pytest.raises(ValueRejected):
        await pipelined(database, f"select {value}")


async def test_an_error_does_not_contain_parameters(database: Database) -> None:
    with pytest.raises(DBAPIError) as raised:
        await database.fetch_first(
            text("select cast(:payload as text) from nowhere").bindparams(payload="a secret")
        )
    assert "a secret" not in str(raised.value)


LOCK = "select pg_advisory_xact_lock(1, 1)"


async def lock_and_freeze(database: Database, locked: asyncio.Event, thaw: asyncio.Event) -> None:
    async with database.pipeline() as driver:
        await (await driver.execute(LOCK)).fetchall()
        locked.set()
        await thaw.wait()
        await driver.commit()


async def test_a_process_that_freezes_in_a_pipeline_loses_its_locks_after_a_timeout(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres does not count the session as idle: a pipeline's statements end with the pipeline.

    The next owner of the partition waits for this lock.
    """
    locked, thaw = asyncio.Event(), asyncio.Event()
    async with connected(database_url) as next_owner:
        await next_owner.fetch_first(text("select 1"))
        monkeypatch.setattr(database_module, "FROZEN_SECONDS", -99)
        async with connected(database_url, seconds=100) as freezing:  # does not time out itself
            frozen = asyncio.create_task(lock_and_freeze(freezing, locked, thaw))
            await locked.wait()
            await next_owner.fetch_first(text(LOCK))
            thaw.set()
            with pytest.raises(DatabaseUnavailable):
                await frozen


async def test_a_connection_to_a_lost_machine_is_closed_soon(database_url: str) -> None:
    """Pinflow sets no timeout for a rollback. The kernel's timeouts close the connection."""
    async with connected(database_url) as database, database.pipeline() as driver:
        parameters = driver.info.get_parameters()
    assert int(parameters["tcp_user_timeout"]) <= 20_000
    assert int(parameters["keepalives_idle"]) <= 10


@pytest.mark.parametrize("ping_after", [0, 3600], ids=["pinged", "recently-used"])
async def test_invariant_9_connections_that_a_restart_of_postgres_closed_fail_no_work(
    database_url: str, monkeypatch: pytest.MonkeyPatch, ping_after: float
) -> None:
    monkeypatch.setattr(liveness, "PING_AFTER_SECONDS", ping_after)
    session = text("select pg_backend_pid() as pid")
    async with connected(database_url) as database, connected(database_url) as operator:
        async with database.transaction() as first, database.transaction() as second:
            closed = [(await used.execute(session)).scalar_one() for used in (first, second)]
        await end_sessions(operator, closed)
        async with database.pipeline() as driver, database.autocommit() as other:
            opened = {driver.info.backend_pid, other.info.backend_pid}
        assert opened.isdisjoint(closed)


async def test_a_connection_is_pinged_only_if_it_was_idle_for_a_while(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(database_url) as database:
        pings = count_pings(database, monkeypatch)
        monkeypatch.setattr(liveness, "PING_AFTER_SECONDS", 3600)
        for _ in range(3):
            await pipelined(database, "select 1")
        assert not pings
        monkeypatch.setattr(liveness, "PING_AFTER_SECONDS", 0)
        await pipelined(database, "select 1")
        assert len(pings) == 1


async def test_each_statement_of_an_autocommit_connection_is_a_transaction(
    database_url: str,
) -> None:
    """The next user of the connection has transactions again."""
    statement = "select pg_current_xact_id()::text"
    async with connected(database_url) as database:
        async with database.autocommit() as driver:
            process = driver.info.backend_pid
            ids = [await (await driver.execute(statement)).fetchone() for _ in range(2)]
        async with database.transaction() as connection:
            driver = await driver_connection(connection)
            assert driver.info.backend_pid == process
            same = [await (await driver.execute(statement)).fetchone() for _ in range(2)]
    assert ids[0] != ids[1]
    assert same[0] == same[1]


async def test_an_error_on_an_autocommit_connection_is_transient_as_in_a_transaction(
    database_url: str,
) -> None:
    async with connected(database_url, "statement_timeout=50ms") as database:
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            async with database.autocommit() as driver:
                await driver.execute("select pg_sleep(5)")


async def test_an_operators_keepalive_settings_apply(database_url: str) -> None:
    settings = DatabaseSettings(database_url=SecretStr(f"{database_url}?keepalives_idle=77"))
    assert "keepalives_idle" not in connection_options(settings)


@pytest.mark.parametrize("is_raw", [False, True], ids=["sqlalchemy", "driver"])
async def test_invariant_9_a_statement_prepared_before_a_migration_is_prepared_anew(
    database_url: str, is_raw: bool
) -> None:
    """`select *` fails on a connection for ever when its table has another column."""
    table = f"t_{uuid4().hex}"

    async def read(database: Database) -> int:
        async with database.transaction() as connection:
            if not is_raw:
                return len((await connection.execute(text(f"select * from {table}"))).keys())
            driver = await driver_connection(connection)
            return len((await driver.execute(f"select * from {table}")).description or [])

    async with connected(database_url) as database, connected(database_url) as migration:
        await pipelined(migration, f"create table {table} (a int)")
        async with database.transaction(), database.transaction():
            pass  # two connections
        for _ in range(6):
            assert await read(database) == 1
        await pipelined(migration, f"alter table {table} add column b int")
        with pytest.raises(DatabaseUnavailable, match="migration"):
            await read(database)
        for _ in range(6):
            assert await read(database) == 2
        await pipelined(migration, f"drop table {table}")
