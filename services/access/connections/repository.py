"""Reads and writes connections and their tokens."""

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from services.access.connections import statements
from services.access.connections.model import Connection, GrantType, NewConnection
from services.access.connections.rules import FailedRefresh, RefreshState
from shared.access.connection_health import GIVEN_UP, RECONNECT_CODES, HealthCode
from shared.pinterest.model import TokenGrant
from shared.postgres.database import Database
from shared.postgres.row import Row

_CONNECTION_FIELDS = tuple(field.name for field in fields(Connection))


@dataclass(frozen=True, slots=True)
class OpenedConnection:
    """A connection with its tokens, which are still encrypted. None: it is disconnected."""

    connection: Connection
    secret: bytes | None
    now: datetime


@dataclass(frozen=True, slots=True)
class RefreshClaim:
    """The right to refresh the tokens of one connection, until its lease is over."""

    account_id: UUID
    version: int
    fence: int
    secret: bytes
    failures: int
    connected_at: datetime
    grant_type: GrantType
    scopes: tuple[str, ...]
    claimed_at: float
    """The monotonic clock's time just before the lease was taken."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The last refresh of a connection, by any process."""

    version: int
    fence: int
    is_taken: bool
    """A refresh is in flight, or its process died and its time is not over."""
    is_ended: bool
    """The last refresh ended: it stored tokens, or failed."""
    health_code: HealthCode | None
    health_message: str | None


@dataclass(frozen=True, slots=True)
class SealedTokens:
    key_id: str
    secret: bytes
    refresh_seconds: float


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    expiring: int
    reconnect_required: int
    unreadable: int


class ConnectionRepository:
    """Reads and writes connections of one mode. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database, mode: str) -> None:
        self._database = database
        self._mode = mode

    async def find(self, account_id: UUID) -> Connection | None:
        row = await self._database.fetch_first(statements.FIND.bindparams(account_id=account_id))
        return None if row is None else _to_connection(row)

    async def open(self, account_id: UUID) -> OpenedConnection | None:
        """Reads a connection of any mode with its tokens."""
        row = await self._database.fetch_first(statements.OPEN.bindparams(account_id=account_id))
        if row is None:
            return None
        return OpenedConnection(_to_connection(row), row["secret"], row["read_at"])

    async def claim(
        self, account_id: UUID, version: int, lease_seconds: float
    ) -> RefreshClaim | None:
        """Takes the lease of a refresh, if the version is current and nobody has the lease."""
        statement = statements.CLAIM.bindparams(
            account_id=account_id, version=version, lease_seconds=lease_seconds, mode=self._mode
        )
        claimed_at = time.monotonic()
        row = await self._database.fetch_first(statement)
        return None if row is None else _to_claim(row, claimed_at)

    async def claim_due(self, limit: int, lease_seconds: float) -> list[RefreshClaim]:
        """Takes the leases of refreshes that are due. Replicas get different ones."""
        statement = statements.CLAIM_DUE.bindparams(
            limit=limit, lease_seconds=lease_seconds, mode=self._mode
        )
        claimed_at = time.monotonic()
        return [_to_claim(row, claimed_at) for row in await self._database.fetch_all(statement)]

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
            _to_health_code(row["health_code"]),
            row["health_message"],
        )

    @asynccontextmanager
    async def lock(self, claim: RefreshClaim) -> AsyncIterator["LockedConnection | None"]:
        """Opens a transaction that ends a claim. Commits at the end.

        Yields None if the account was disconnected, or connected again, since the claim.
        """
        values = {"account_id": claim.account_id, "connected_at": claim.connected_at}
        async with self._database.transaction() as connection:
            row = (await connection.execute(statements.LOCK_CONNECTION, values)).mappings().first()
            yield None if row is None else LockedConnection(connection, claim, row)

    async def give_up(self, account_id: UUID, version: int, failed: FailedRefresh) -> None:
        """Notes that Pinterest accepts neither the access token of this version nor a refresh."""
        async with self._database.transaction() as connection:
            if await _set_health(connection, account_id, version, failed, kept=()):
                await connection.execute(
                    statements.PLAN_REFRESH,
                    {
                        "account_id": account_id,
                        "version": version,
                        "retry_seconds": failed.retry_seconds,
                    },
                )

    async def set_health(
        self, account_id: UUID, version: int, code: HealthCode, message: str
    ) -> None:
        """Notes why the connection does not work, unless it was given up."""
        failed = FailedRefresh(code, message, None)
        async with self._database.transaction() as connection:
            await _set_health(connection, account_id, version, failed, kept=GIVEN_UP)

    async def set_checked(self, account_id: UUID, version: int) -> None:
        """Notes that Pinterest accepted the access token of this version."""
        async with self._database.transaction() as connection:
            await connection.execute(
                statements.SET_CHECKED, {"account_id": account_id, "version": version}
            )

    @asynccontextmanager
    async def lock_workspace(self, workspace_id: UUID) -> AsyncIterator["LockedWorkspace"]:
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
    ) -> AsyncIterator["LockedTokens"]:
        """Locks tokens of all modes that other keys than `key_id` encrypted, of these keys."""
        values = {"key_id": key_id, "key_ids": list(key_ids), "limit": limit}
        async with self._database.transaction() as connection:
            rows = (await connection.execute(statements.SELECT_SEALED_BY_OTHERS, values)).mappings()
            yield LockedTokens(connection, {row["account_id"]: row["secret"] for row in rows})

    async def delete_attempts(self, kept_seconds: float, limit: int) -> int:
        """Deletes attempts to connect that expired so long ago. Returns their number."""
        values = {"kept_seconds": kept_seconds, "limit": limit}
        async with self._database.transaction() as connection:
            return (await connection.execute(statements.DELETE_ATTEMPTS, values)).rowcount

    async def count(self, key_ids: Sequence[str]) -> ConnectionCounts:
        """Counts connections that need a person. `key_ids`: the keys that are set."""
        statement = statements.COUNT.bindparams(
            mode=self._mode,
            key_ids=list(key_ids),
            reconnect_codes=_to_values(RECONNECT_CODES),
        )
        row = await self._database.fetch_first(statement)
        return ConnectionCounts(**(row or {}))


class LockedConnection:
    """A connection in the transaction that ends a claim."""

    def __init__(self, connection: AsyncConnection, claim: RefreshClaim, row: RowMapping) -> None:
        self._connection = connection
        self._claim = claim
        self.version: int = row["token_version"]
        self.state = RefreshState(
            now=row["read_at"],
            token_expires_at=row["token_expires_at"],
            refresh_expires_at=row["refresh_expires_at"],
            health_code=_to_health_code(row["health_code"]),
            failures=claim.failures,
        )

    async def store(self, tokens: SealedTokens, grant: TokenGrant) -> int | None:
        """Stores refreshed tokens. Returns their version, or None if later ones are stored."""
        values = {
            "account_id": self._claim.account_id,
            "version": self._claim.version,
            "fence": self._claim.fence,
            "key_id": tokens.key_id,
            "secret": tokens.secret,
            "refresh_seconds": tokens.refresh_seconds,
        }
        version: int | None = (
            await self._connection.execute(statements.STORE_TOKENS, values)
        ).scalar()
        if version is not None:
            granted = {
                "account_id": self._claim.account_id,
                "version": version,
                "kept_health": HealthCode.SCOPE_MISSING.value,
                **_describe_grant(grant),
            }
            await self._connection.execute(statements.STORE_GRANT, granted)
        return version

    async def postpone(
        self, retry_seconds: float | None, failed: FailedRefresh | None = None
    ) -> None:
        """Plans the next refresh, and notes why this one failed.

        Without `failed`, the failure is the operator's: the connection is not to blame. Does
        nothing if another process has the lease, or if other tokens were stored.
        """
        values = {
            "account_id": self._claim.account_id,
            "version": self._claim.version,
            "fence": self._claim.fence,
            "failures": int(failed is not None),
            "retry_seconds": retry_seconds,
        }
        postponed = await self._connection.execute(statements.POSTPONE, values)
        if postponed.first() is not None and failed is not None:
            await _set_health(
                self._connection,
                self._claim.account_id,
                self._claim.version,
                failed,
                kept=() if failed.health_code in GIVEN_UP else RECONNECT_CODES,
            )


class LockedWorkspace:
    """A workspace in the transaction that connects one of its accounts."""

    def __init__(self, connection: AsyncConnection, workspace_id: UUID, mode: str) -> None:
        self._connection = connection
        self._workspace_id = workspace_id
        self._mode = mode

    async def find_account(self, account_id: UUID) -> bool:
        """Locks an account. Returns False if the workspace does not have it."""
        values = {"workspace_id": self._workspace_id, "account_id": account_id}
        return (await self._connection.execute(statements.LOCK_ACCOUNT, values)).first() is not None

    async def find_connection(self, account_id: UUID) -> Connection | None:
        row = await self._connection.execute(statements.FIND, {"account_id": account_id})
        return _to_optional_connection(row.mappings().first())

    async def find_connection_of_user(self, user_id: str) -> Connection | None:
        """Returns the connection of a Pinterest user in this mode, also a disconnected one."""
        values = {"workspace_id": self._workspace_id, "mode": self._mode, "user_id": user_id}
        row = await self._connection.execute(statements.SELECT_OF_USER, values)
        return _to_optional_connection(row.mappings().first())

    async def create_account(self, username: str) -> UUID:
        account_id = uuid4()
        values = {
            "account_id": account_id,
            "workspace_id": self._workspace_id,
            "username": username,
        }
        await self._connection.execute(statements.INSERT_ACCOUNT, values)
        return account_id

    async def connect(self, account_id: UUID, new: NewConnection, tokens: SealedTokens) -> None:
        """Stores a connection with its tokens. The account is not revoked any more."""
        restored = {"account_id": account_id, "username": new.user.username}
        await self._connection.execute(statements.RESTORE_ACCOUNT, restored)
        values = {
            "account_id": account_id,
            "workspace_id": self._workspace_id,
            "mode": self._mode,
            "user_id": new.user.id,
            "grant_type": new.grant_type,
            **_describe_grant(new.grant),
        }
        version = (
            await self._connection.execute(statements.UPSERT_CONNECTION, values)
        ).scalar_one()
        sealed = {
            "account_id": account_id,
            "version": version,
            "key_id": tokens.key_id,
            "secret": tokens.secret,
            "refresh_seconds": tokens.refresh_seconds,
        }
        await self._connection.execute(statements.UPSERT_TOKENS, sealed)


class LockedTokens:
    """Encrypted tokens by account, in the transaction that encrypts them anew."""

    def __init__(self, connection: AsyncConnection, secrets: Mapping[UUID, bytes]) -> None:
        self._connection = connection
        self.secrets = secrets

    async def replace(self, account_id: UUID, key_id: str, secret: bytes) -> None:
        values = {"account_id": account_id, "key_id": key_id, "secret": secret}
        await self._connection.execute(statements.RESEAL, values)


async def _set_health(
    connection: AsyncConnection,
    account_id: UUID,
    version: int,
    failed: FailedRefresh,
    *,
    kept: Collection[HealthCode],
) -> bool:
    """Notes a fault, unless a code in `kept` is noted. Returns whether it was noted."""
    values = {
        "account_id": account_id,
        "version": version,
        "code": failed.health_code.value,
        "message": failed.message,
        "kept": _to_values(kept),
    }
    return (await connection.execute(statements.SET_HEALTH, values)).first() is not None


def _describe_grant(grant: TokenGrant) -> dict[str, Any]:
    refresh_lifetime = grant.refresh_expires_in
    return {
        "lifetime": float(grant.expires_in),
        "refresh_lifetime": None if refresh_lifetime is None else float(refresh_lifetime),
        "scopes": list(grant.scopes),
    }


def _to_optional_connection(row: RowMapping | None) -> Connection | None:
    return None if row is None else _to_connection(dict(row))


def _to_connection(row: Mapping[str, Any]) -> Connection:
    values = {name: row[name] for name in _CONNECTION_FIELDS}
    values["scopes"] = tuple(row["scopes"])
    values["health_code"] = _to_health_code(row["health_code"])
    return Connection(**values)


def _to_claim(row: Row, claimed_at: float) -> RefreshClaim:
    return RefreshClaim(
        account_id=row["account_id"],
        version=row["version"],
        fence=row["lease_fence"],
        secret=row["secret"],
        failures=row["refresh_failures"],
        connected_at=row["connected_at"],
        grant_type=row["grant_type"],
        scopes=tuple(row["scopes"]),
        claimed_at=claimed_at,
    )


def _to_health_code(value: str | None) -> HealthCode | None:
    return None if value is None else HealthCode(value)


def _to_values(codes: Iterable[HealthCode]) -> list[str]:
    return [code.value for code in codes]
