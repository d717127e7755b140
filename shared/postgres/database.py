"""Postgres engines and transactions, and the classification of driver errors."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Executable, event, exc, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from shared.contract.errors import DatabaseUnavailable, PositionBehind, ValueRejected
from shared.postgres.arrays import Column, ColumnDumper
from shared.postgres.liveness import LivenessCheck
from shared.postgres.row import Row
from shared.runtime.settings import DatabaseSettings

DriverConnection: TypeAlias = psycopg.AsyncConnection[Any]

TRANSIENT_STATES = (
    "08",
    "53",
    "57P",
    "57014",
    "58",
    "40001",
    "40P01",
    "25006",
    "25P03",
    "25P04",
    "55P03",
)
"""SQLSTATE prefixes of transient errors.

In order: connection, resources, shutdown, canceled statement, input and output, serialization,
deadlock, read-only standby, idle-in-transaction timeout, transaction timeout, lock timeout.
"""

REJECTED_VALUE_ERRORS = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)
"""Errors about a value.

A violated constraint does not count: its cause is a bug, or an old version with a newer schema.
Then the batch is retried.
"""

POSITION_BEHIND = "PF001"
"""SQLSTATE that the SQL function hold_positions raises (migration 0012)."""

SESSION_OPTIONS = {
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""Times are UTC, whatever the server's time zone.

A process that freezes in a transaction holds its locks for at most a minute. So does a lost
machine, instead of the two hours of the server's own keep-alive.
"""

FROZEN_SECONDS = 60
"""Time that Postgres allows a transaction beyond this process's own timeout.

In the middle of a pipeline a frozen process is not idle to Postgres, so
idle_in_transaction_session_timeout does not apply.
"""

KEEPALIVE_OPTIONS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq options: waiting for a lost server ends after 20 s, not after a quarter of an hour.

This also ends a rollback, which has no timeout.
"""


def create_engine(
    settings: DatabaseSettings, *, application: str, connections: int | None = None
) -> AsyncEngine:
    """Builds an engine for one service. `application` is its name in pg_stat_activity.

    `connections` replaces the pool size of the settings.
    """
    url = make_url(sqlalchemy_url(settings.database_url.get_secret_value()))
    engine = create_async_engine(
        url,
        pool_size=connections or settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_timeout_seconds,
        hide_parameters=True,  # parameters are payload, which must not be logged
        connect_args={
            **connection_options(settings),
            "application_name": application,
            "prepare_threshold": 1,
        },
    )
    event.listen(engine.sync_engine, "connect", _register_dumpers)
    LivenessCheck(engine.sync_engine)
    return engine


def connection_options(settings: DatabaseSettings) -> dict[str, Any]:
    """Returns libpq's parameters of every connection.

    Keep-alive parameters in the operator's URL take precedence. The session options and
    connect_timeout override those in the URL.
    """
    url_options = conninfo_to_dict(settings.database_url.get_secret_value())
    max_seconds = settings.database_timeout_seconds + FROZEN_SECONDS
    session = SESSION_OPTIONS | {"transaction_timeout": f"{max_seconds:.0f}s"}
    options = " ".join(
        [
            str(url_options.get("options", "")),
            *(f"-c {name}={value}" for name, value in session.items()),
        ]
    )
    return {
        "connect_timeout": 5,
        "options": options.strip(),
        **{name: value for name, value in KEEPALIVE_OPTIONS.items() if name not in url_options},
    }


def sqlalchemy_url(url: str) -> str:
    """Adds SQLAlchemy's driver name to a libpq URL."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in {"postgresql", "postgres"} else url


def _register_dumpers(dbapi_connection: Any, _record: object) -> None:
    adapters = dbapi_connection.driver_connection.adapters
    adapters.register_dumper(Column, ColumnDumper)
    # psycopg sends a list as text by default: 4 times slower, 10 times the CPU,
    # measured in docs/explanation/performance-history.md
    adapters.register_dumper(list, ListBinaryDumper)


class Database:
    """The transactions of one service. Raises DatabaseUnavailable for every transient error."""

    def __init__(self, engine: AsyncEngine, timeout_seconds: float) -> None:
        self.engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._timeout_seconds = timeout_seconds
        self._connected: WeakKeyDictionary[DriverConnection, float] = WeakKeyDictionary()
        self._warm_lock = asyncio.Lock()  # concurrent calls would wait for each other's connections
        self._stale_at = float("-inf")
        event.listen(engine.sync_engine, "connect", self._record_time)
        event.listen(engine.sync_engine, "checkout", self._require_fresh)

    def _record_time(self, dbapi_connection: Any, _record: object) -> None:
        self._connected[dbapi_connection.driver_connection] = time.monotonic()

    def _require_fresh(self, dbapi_connection: Any, _record: object, _proxy: object) -> None:
        """Has the pool replace a connection whose prepared statements may be stale."""
        opened_at = self._connected.get(dbapi_connection.driver_connection, float("-inf"))
        if opened_at < self._stale_at:
            raise exc.DisconnectionError

    def connected_at(self, driver: DriverConnection) -> float:
        """Returns when a pooled connection was opened, by the monotonic clock."""
        return self._connected[driver]

    async def warm(self) -> None:
        """Opens all connections of the pool that are not open yet. Raises DatabaseUnavailable."""
        async with self._warm_lock, AsyncExitStack() as held:
            pool = cast("QueuePool", self.engine.pool)
            for _ in range(pool.size() - pool.checkedout()):
                await held.enter_async_context(self.transaction())

    @classmethod
    def from_settings(
        cls, settings: DatabaseSettings, *, application: str, connections: int | None = None
    ) -> "Database":
        return cls(
            create_engine(settings, application=application, connections=connections),
            settings.database_timeout_seconds,
        )

    @asynccontextmanager
    async def transaction(
        self, *, extra_timeout_seconds: float = 0
    ) -> AsyncIterator[AsyncConnection]:
        """Opens a READ COMMITTED transaction. Commits at the end, rolls back on an exception.

        `extra_timeout_seconds` extends the timeout for work outside the database in the block.
        """
        seconds = self._timeout_seconds + extra_timeout_seconds
        async with self._bounded(seconds), self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[DriverConnection]:
        """Opens a connection on which each statement is a transaction of its own.

        For a single statement on the hot path: `begin` and `commit` would cost a round trip each.
        """
        async with self._bounded(self._timeout_seconds), self._autocommit.connect() as connection:
            yield await driver_connection(connection)

    @asynccontextmanager
    async def _bounded(self, seconds: float) -> AsyncIterator[None]:
        """Limits the block's time. Raises DatabaseUnavailable for every transient error."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise DatabaseUnavailable(f"no answer within {seconds:g} s") from error
        except Exception as error:
            if has_stale_plan(error):
                self._stale_at = time.monotonic()
                raise DatabaseUnavailable("a migration has changed a table") from error
            if is_transient(error):
                raise DatabaseUnavailable(str(error).splitlines()[0]) from error
            raise

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[DriverConnection]:
        """Opens a transaction in psycopg's pipeline mode, which sends statements together.

        For the hot path, where SQLAlchemy's execution costs more than the statement. `fetchall()`
        waits for the results so far. Raises ValueRejected if Postgres rejects a value, and
        PositionBehind if hold_positions finds a position that is too low.
        """
        async with self.transaction() as connection:
            driver = await driver_connection(connection)
            try:
                async with driver.pipeline():
                    yield driver
            except REJECTED_VALUE_ERRORS as error:
                raise ValueRejected(str(error).splitlines()[0]) from error
            except psycopg.DatabaseError as error:
                if error.diag.sqlstate == POSITION_BEHIND:
                    raise PositionBehind(str(error).splitlines()[0]) from error
                raise

    async def fetch_first(self, statement: Executable) -> Row | None:
        """Executes a statement in its own transaction. Returns the first row, if any."""
        async with self.transaction() as connection:
            row = (await connection.execute(statement)).mappings().first()
        return None if row is None else dict(row)

    async def fetch_all(self, statement: Executable) -> list[Row]:
        """Executes a statement in its own transaction. Returns all rows."""
        async with self.transaction() as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    async def dispose(self) -> None:
        await self.engine.dispose()


async def driver_connection(connection: AsyncConnection) -> DriverConnection:
    """Returns the psycopg connection behind SQLAlchemy's, in the same transaction."""
    raw = await connection.get_raw_connection()
    return cast("DriverConnection", raw.driver_connection)


def has_stale_plan(error: BaseException) -> bool:
    """Returns whether a migration has changed the columns of a prepared statement's result.

    Such a statement (one with `*`) fails on its connection for ever, and is valid on a new one.
    """
    if isinstance(error, exc.DBAPIError):
        return error.orig is not None and has_stale_plan(error.orig)
    return (
        isinstance(error, psycopg.errors.FeatureNotSupported)
        and error.diag.source_function == "RevalidateCachedQuery"
    )


def is_transient(error: BaseException) -> bool:
    """Returns whether a retry can succeed: the server is down or busy, and the query is valid."""
    if isinstance(error, exc.TimeoutError):  # no pooled connection became free in time
        return True
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_transient(error.orig))
    if isinstance(error, psycopg.Error):
        state = error.sqlstate
        if state is None:  # not from the server: connecting failed or the connection broke
            return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return state.startswith(TRANSIENT_STATES)
    return False
