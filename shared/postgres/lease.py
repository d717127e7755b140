"""Leases a replica's name, so that no second process runs under it.

Two consumers with one group_instance_id both consume everything (measured). The lease is a
session-level advisory lock of Postgres. It ends with the connection, so a killed process leaves no
lease behind, and no clock is involved. It needs a real session: a pooler in transaction mode does
not work.
"""

import asyncio
from hashlib import blake2b

import psycopg
import structlog

from shared.contract.errors import PinflowError
from shared.postgres.database import connection_options, is_transient
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

TAKEOVER_SECONDS = 10.0
"""Longest wait for the name: Postgres may still hold the lease of a killed process."""
RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 2.0
"""Maximum seconds between two attempts while Postgres is down. The pauses double up to it."""
CHECK_SECONDS = 2.0
ATTEMPT_SECONDS = 10.0
"""Timeout of one attempt to acquire the lease.

A Postgres on a lost machine neither answers nor closes its connections.
"""


class ReplicaNameTaken(PinflowError):
    """Another process runs under the same replica name."""


class ReplicaLease:
    """A lease on a replica's name, held from acquire() to release().

    While Postgres is down, nobody can keep or acquire it.
    """

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self.name = f"{settings.topic_prefix}/{service}/{settings.replica}"
        self._url = settings.database_url.get_secret_value()
        self._options = connection_options(settings)
        self._connection: psycopg.AsyncConnection[tuple[bool]] | None = None

    async def acquire(self) -> None:
        """Acquires the lease. Waits for Postgres as long as it takes.

        Raises ReplicaNameTaken if another process still holds the name after TAKEOVER_SECONDS
        without an outage of Postgres.
        """
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        pause = RETRY_SECONDS
        while True:
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    if await self._try_lock():
                        return
                deadline, pause = deadline or loop.time() + TAKEOVER_SECONDS, RETRY_SECONDS
            except (psycopg.Error, TimeoutError) as error:
                await self._disconnect()
                if isinstance(error, psycopg.Error) and not is_transient(error):
                    raise
                log.warning(
                    "lease_waits_for_postgres",
                    name=self.name,
                    error=str(error).strip() or repr(error),
                )
                deadline, pause = None, min(2 * pause, MAX_RETRY_SECONDS)
            if deadline is not None and loop.time() > deadline:
                await self._disconnect()
                raise ReplicaNameTaken(
                    f"another process runs as {self.name}: set PINFLOW_REPLICA to a unique name"
                )
            await asyncio.sleep(pause)

    async def keep(self) -> None:
        """Checks the lease forever, and acquires it again after an outage.

        Raises ReplicaNameTaken if another process has acquired it meanwhile.
        """
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                if self._connection is None:
                    raise psycopg.OperationalError("no connection")
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._connection.execute("select 1")
            except (psycopg.Error, TimeoutError):
                await self._disconnect()
                await self.acquire()

    async def release(self) -> None:
        await self._disconnect()

    async def _try_lock(self) -> bool:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url,
                **self._options,
                autocommit=True,
                application_name=f"pinflow-lease {self.name}",
            )
        cursor = await self._connection.execute(
            "select pg_try_advisory_lock(%b)", (_lock_key(self.name),)
        )
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _lock_key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
