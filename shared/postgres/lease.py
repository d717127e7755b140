"""The lease on a replica's name: a second process under it is refused.

Two consumers under one group_instance_id both consume everything (measured). A session-level
advisory lock of Postgres is the lease: it ends with the connection, so a killed process leaves none
behind, and no clock is involved. It needs a real session: not a pooler in transaction mode.
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
"""How long to wait for the name: a predecessor that was just killed may still be known to Postgres.
"""
RETRY_SECONDS = 0.2
CHECK_SECONDS = 2.0
ATTEMPT_SECONDS = 10.0
"""A Postgres that takes connections and says no more is asked anew: a lost machine closes none."""


class ReplicaNameTaken(PinflowError):
    """Another process runs under this service's replica name."""


class ReplicaLease:
    """Held from acquire() to release().

    While Postgres is away it can neither be kept nor taken by anyone else.
    """

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self.name = f"{settings.topic_prefix}/{service}/{settings.replica}"
        self._url = settings.database_url.get_secret_value()
        self._options = connection_options(settings)
        self._connection: psycopg.AsyncConnection[tuple[bool]] | None = None

    async def acquire(self) -> None:
        """Wait for Postgres as long as it takes.

        Raises ReplicaNameTaken if the name is not free within TAKEOVER_SECONDS of its answers.
        """
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while True:
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    if await self._try():
                        return
                deadline = deadline or loop.time() + TAKEOVER_SECONDS
            except (psycopg.Error, TimeoutError) as error:
                await self._drop()
                if isinstance(error, psycopg.Error) and not is_transient(error):
                    raise
                log.warning(
                    "lease_waits_for_postgres",
                    name=self.name,
                    error=str(error).strip() or repr(error),
                )
                deadline = None
            if deadline is not None and loop.time() > deadline:
                await self._drop()
                raise ReplicaNameTaken(
                    f"another process runs as {self.name}: set PINFLOW_REPLICA to a name of its own"
                )
            await asyncio.sleep(RETRY_SECONDS)

    async def keep(self) -> None:
        """Watch over the lease for ever, taking it anew after an outage.

        Raises ReplicaNameTaken when it was lost to another.
        """
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                if self._connection is None:
                    raise psycopg.OperationalError("no connection")
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._connection.execute("select 1")
            except (psycopg.Error, TimeoutError):
                await self._drop()
                await self.acquire()

    async def release(self) -> None:
        await self._drop()

    async def _try(self) -> bool:
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

    async def _drop(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _lock_key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
