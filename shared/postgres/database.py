"""Postgres: the engine, transactions, and what a driver's error means."""

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
"""SQLSTATE prefixes of faults that pass: connection, resources, shutdown, a cancelled statement,
input and output, serialization, deadlock, a read-only standby, a session ended as it was idle in a
transaction, or as that took too long, a lock not had in time.
"""

REJECTED_VALUE_ERRORS = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)
"""What is about a value.

A violated constraint is not: it is a bug, or an older version beside a newer schema, and waits.
"""

POSITION_BEHIND = "PF001"
"""The SQLSTATE that the function hold_positions raises (revision 0012)."""

SESSION_OPTIONS = {
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""Times are UTC whatever the server's zone. A process that freezes in a transaction holds its locks
for a minute, not for ever; one whose machine is lost too, and not for the two hours of the server's
own keep-alive.
"""

FROZEN_SECONDS = 60
"""A transaction may take so much longer than anyone here waits for it. In the middle of a pipeline
it is not idle to Postgres: the session's other limit never begins.
"""

ALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq's: what waits for a server whose machine is gone, a rollback without a deadline too, waits
20 s and not a quarter of an hour.
"""


def create_engine(
    settings: DatabaseSettings, *, application: str, connections: int | None = None
) -> AsyncEngine:
    """An engine for one service; `application` is what pg_stat_activity shows.

    `connections`: not all of the pool's, but so many.
    """
    url = make_url(sqlalchemy_url(settings.database_url.get_secret_value()))
    engine = create_async_engine(
        url,
        pool_size=connections or settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_timeout_seconds,
        # A pooled connection that did not survive a restart is replaced, not handed out
        pool_pre_ping=True,
        hide_parameters=True,  # they are payload: not for logs
        connect_args={
            **connection_options(settings),
            "application_name": application,
            "prepare_threshold": 1,
        },
    )
    event.listen(engine.sync_engine, "connect", _adapt)
    return engine


def connection_options(settings: DatabaseSettings) -> dict[str, Any]:
    """libpq's parameters of every connection, beside those that an operator has written into the
    URL.
    """
    given = conninfo_to_dict(settings.database_url.get_secret_value())
    longest = settings.database_timeout_seconds + FROZEN_SECONDS
    session = SESSION_OPTIONS | {"transaction_timeout": f"{longest:.0f}s"}
    options = " ".join(
        [str(given.get("options", "")), *(f"-c {name}={value}" for name, value in session.items())]
    )
    return {
        "connect_timeout": 5,
        "options": options.strip(),
        **{name: value for name, value in ALIVE.items() if name not in given},
    }


def sqlalchemy_url(url: str) -> str:
    """libpq's URL, as operators write it, with SQLAlchemy's driver name."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in {"postgresql", "postgres"} else url


def _adapt(dbapi_connection: Any, _record: object) -> None:
    adapters = dbapi_connection.driver_connection.adapters
    adapters.register_dumper(Column, ColumnDumper)
    # psycopg sends a list as text by default: 4 times slower, 10 times the CPU,
    # measured in docs/explanation/performance.md
    adapters.register_dumper(list, ListBinaryDumper)


class Database:
    """The transactions of one service. Raises DatabaseUnavailable for every fault that passes."""

    def __init__(self, engine: AsyncEngine, timeout_seconds: float) -> None:
        self.engine = engine
        self._timeout_seconds = timeout_seconds
        self._made: WeakKeyDictionary[DriverConnection, float] = WeakKeyDictionary()
        self._warming = asyncio.Lock()  # two calls at once would wait for each other's connections
        event.listen(engine.sync_engine, "connect", self._note)

    def _note(self, dbapi_connection: Any, _record: object) -> None:
        self._made[dbapi_connection.driver_connection] = time.monotonic()

    def connected_at(self, driver: DriverConnection) -> float:
        """Returns the time when a connection of the pool was made, by the monotonic clock."""
        return self._made[driver]

    async def warm(self) -> None:
        """Opens all connections of the pool that are not open yet. Raises DatabaseUnavailable."""
        async with self._warming, AsyncExitStack() as held:
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
        """One transaction under READ COMMITTED: committed at the end, rolled back when anything is
        raised.

        `extra_timeout_seconds`: how long something else than the database may take in between.
        """
        seconds = self._timeout_seconds + extra_timeout_seconds
        try:
            async with asyncio.timeout(seconds), self.engine.begin() as connection:
                yield connection
        except TimeoutError as error:
            raise DatabaseUnavailable(f"no answer within {seconds:g} s") from error
        except Exception as error:
            if is_transient(error):
                raise DatabaseUnavailable(str(error).splitlines()[0]) from error
            raise

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[DriverConnection]:
        """A transaction whose statements travel together: psycopg's connection in pipeline mode.

        For the hot path: SQLAlchemy's own execution costs more than the statement. `fetchall()`
        waits for the answers so far. Raises ValueRejected when Postgres would not take a value.
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
        """One statement in a transaction of its own; its first row."""
        async with self.transaction() as connection:
            row = (await connection.execute(statement)).mappings().first()
        return None if row is None else dict(row)

    async def fetch_all(self, statement: Executable) -> list[Row]:
        """One statement in a transaction of its own; its rows."""
        async with self.transaction() as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    async def dispose(self) -> None:
        await self.engine.dispose()


async def driver_connection(connection: AsyncConnection) -> DriverConnection:
    """The psycopg connection below SQLAlchemy's, inside the same transaction."""
    raw = await connection.get_raw_connection()
    return cast("DriverConnection", raw.driver_connection)


def is_transient(error: BaseException) -> bool:
    """Whether waiting can mend it: the server is away or busy, not the statement wrong."""
    if isinstance(error, exc.TimeoutError):  # the pool had no connection in time
        return True
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_transient(error.orig))
    if isinstance(error, psycopg.Error):
        state = error.sqlstate
        if state is None:  # no server said it: the connection failed or broke
            return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return state.startswith(TRANSIENT_STATES)
    return False
