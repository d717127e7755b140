"""Reads and writes connections and their tokens."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from services.access.connections import statements
from services.access.connections.model import Connection
from services.access.connections.rules import (
    REFUSED_AGAIN_MESSAGE,
    FailedRefresh,
    judge_refused_token,
)
from services.access.connections.stored import (
    ConnectionCounts,
    Lease,
    OpenedConnection,
    RefreshClaim,
    to_claim,
    to_connection,
    to_health_code,
    to_values,
)
from services.access.connections.transactions import (
    LockedConnection,
    LockedTokens,
    LockedWorkspace,
    set_health,
)
from shared.access.connection_health import GIVEN_UP, RECONNECT_CODES, HealthCode
from shared.postgres.database import Database


class ConnectionRepository:
    """Reads and writes connections of one mode. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database, mode: str) -> None:
        self._database = database
        self._mode = mode

    async def find(self, account_id: UUID) -> Connection | None:
        row = await self._database.fetch_first(statements.FIND.bindparams(account_id=account_id))
        return None if row is None else to_connection(row)

    async def open(self, account_id: UUID) -> OpenedConnection | None:
        """Reads a connection of any mode with its tokens."""
        row = await self._database.fetch_first(statements.OPEN.bindparams(account_id=account_id))
        if row is None:
            return None
        return OpenedConnection(
            to_connection(row),
            row["secret"],
            row["read_at"],
            is_refused=bool(row["is_refused"]),
            is_refusal_recent=bool(row["is_refusal_recent"]),
        )

    async def claim(
        self, account_id: UUID, version: int, lease_seconds: float
    ) -> RefreshClaim | None:
        """Takes the lease of a refresh, if the version is current and nobody has the lease."""
        statement = statements.CLAIM.bindparams(
            account_id=account_id, version=version, lease_seconds=lease_seconds, mode=self._mode
        )
        claimed_at = time.monotonic()
        row = await self._database.fetch_first(statement)
        return None if row is None else to_claim(row, claimed_at)

    async def claim_due(self, limit: int, lease_seconds: float) -> list[RefreshClaim]:
        """Takes the leases of refreshes that are due. Replicas get different ones."""
        statement = statements.CLAIM_DUE.bindparams(
            limit=limit, lease_seconds=lease_seconds, mode=self._mode
        )
        claimed_at = time.monotonic()
        return [to_claim(row, claimed_at) for row in await self._database.fetch_all(statement)]

    async def read_lease(self, account_id: UUID) -> Lease | None:
        """Returns None if the account has no connection in this mode."""
        statement = statements.READ_LEASE.bindparams(account_id=account_id, mode=self._mode)
        row = await self._database.fetch_first(statement)
        if row is None:
            return None
        return Lease(
            row["version"],
            row["lease_fence"],
            bool(row["is_taken"]),
            row["is_ended"],
            to_health_code(row["health_code"]),
            row["health_message"],
        )

    @asynccontextmanager
    async def lock(self, claim: RefreshClaim) -> AsyncIterator[LockedConnection | None]:
        """Opens a transaction that ends a claim. Commits at the end.

        Yields None if the account was disconnected, or connected again, since the claim.
        """
        values = {"account_id": claim.account_id, "connected_at": claim.connected_at}
        async with self._database.transaction() as connection:
            row = (await connection.execute(statements.LOCK_CONNECTION, values)).mappings().first()
            yield None if row is None else LockedConnection(connection, claim, row)

    async def give_up(self, account_id: UUID, version: int, failed: FailedRefresh) -> bool:
        """Notes that Pinterest accepts neither the access token of this version nor a refresh.

        Returns False, and changes nothing, if other tokens were stored meanwhile.
        """
        async with self._database.transaction() as connection:
            is_noted = await set_health(connection, account_id, version, failed, kept=())
            if is_noted:
                await connection.execute(
                    statements.PLAN_REFRESH,
                    {
                        "account_id": account_id,
                        "version": version,
                        "retry_seconds": failed.retry_seconds,
                    },
                )
            return is_noted

    async def set_health(
        self, account_id: UUID, version: int, code: HealthCode, message: str
    ) -> bool:
        """Notes why the connection does not work, unless it was given up.

        Returns whether it was noted.
        """
        failed = FailedRefresh(code, message, None)
        async with self._database.transaction() as connection:
            return await set_health(connection, account_id, version, failed, kept=GIVEN_UP)

    async def note_refused_token(self, account_id: UUID, version: int) -> FailedRefresh | None:
        """Notes that Pinterest refused a new access token, and plans the next refresh.

        Returns what was noted. None: other tokens were stored meanwhile, or it was disconnected.
        """
        values = {"account_id": account_id, "version": version}
        async with self._database.transaction() as connection:
            row = (await connection.execute(statements.LOCK_REFUSED, values)).mappings().first()
            if row is None:
                return None
            failed = judge_refused_token(
                row["read_at"],
                row["refused_since"],
                row["refused_tries"],
                row["refresh_expires_at"],
            )
            kept = () if failed.health_code in GIVEN_UP else RECONNECT_CODES
            await set_health(connection, account_id, version, failed, kept=kept)
            await connection.execute(
                statements.NOTE_REFUSED, {**values, "retry_seconds": failed.retry_seconds}
            )
            return failed

    async def forget_refused_tokens(self, account_id: UUID, version: int) -> None:
        """Notes that Pinterest accepts the access token of this version after it refused others."""
        values = {"account_id": account_id, "version": version}
        async with self._database.transaction() as connection:
            await connection.execute(
                statements.ACCEPT_TOKEN, {**values, "message": REFUSED_AGAIN_MESSAGE}
            )
            await connection.execute(statements.FORGET_REFUSED, values)

    async def set_checked(self, account_id: UUID, version: int) -> None:
        """Notes that Pinterest accepted the access token of this version."""
        async with self._database.transaction() as connection:
            await connection.execute(
                statements.SET_CHECKED, {"account_id": account_id, "version": version}
            )

    @asynccontextmanager
    async def lock_workspace(self, workspace_id: UUID) -> AsyncIterator[LockedWorkspace]:
        """Opens a transaction that connects one account. Commits at the end.

        Two callbacks of one Pinterest user would otherwise create two accounts.
        """
        async with self._database.transaction() as connection:
            await connection.execute(statements.LOCK_WORKSPACE, {"workspace_id": str(workspace_id)})
            yield LockedWorkspace(connection, workspace_id, self._mode)

    async def disconnect(self, workspace_id: UUID, account_id: UUID) -> bool:
        """Revokes an account and deletes its tokens. Returns False if it is unknown."""
        values = {"account_id": account_id}
        async with self._database.transaction() as connection:
            account = await connection.execute(
                statements.REVOKE_ACCOUNT, {"workspace_id": workspace_id, **values}
            )
            if account.first() is None:
                return False
            await connection.execute(statements.DISCONNECT, values)
            await connection.execute(statements.DELETE_TOKENS, values)
            return True

    @asynccontextmanager
    async def lock_sealed_by_others(
        self, key_id: str, key_ids: Sequence[str], limit: int
    ) -> AsyncIterator[LockedTokens]:
        """Locks tokens of all modes that other keys than `key_id` encrypted, of these keys."""
        values = {"key_id": key_id, "key_ids": list(key_ids), "limit": limit}
        async with self._database.transaction() as connection:
            rows = (await connection.execute(statements.SELECT_SEALED_BY_OTHERS, values)).mappings()
            yield LockedTokens(connection, {row["account_id"]: row["secret"] for row in rows})

    async def count(self, key_ids: Sequence[str]) -> ConnectionCounts:
        """Counts connections that need a person. `key_ids`: the keys that are set."""
        statement = statements.COUNT.bindparams(
            mode=self._mode,
            key_ids=list(key_ids),
            reconnect_codes=to_values(RECONNECT_CODES),
        )
        row = await self._database.fetch_first(statement)
        return ConnectionCounts(**(row or {}))
