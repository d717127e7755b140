"""Changes connections and their tokens inside of open transactions."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from services.access.connections import statements
from services.access.connections.model import Connection, NewConnection
from services.access.connections.rules import FailedRefresh, RefreshState
from services.access.connections.stored import (
    RefreshClaim,
    SealedTokens,
    to_health_code,
    to_optional_connection,
    to_values,
)
from shared.access.connection_health import GIVEN_UP, RECONNECT_CODES, HealthCode
from shared.pinterest.model import TokenGrant


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
            health_code=to_health_code(row["health_code"]),
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
            await set_health(
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
        return to_optional_connection(row.mappings().first())

    async def find_connection_of_user(self, user_id: str) -> Connection | None:
        """Returns the connection of a Pinterest user in this mode, also a disconnected one."""
        values = {"workspace_id": self._workspace_id, "mode": self._mode, "user_id": user_id}
        row = await self._connection.execute(statements.SELECT_OF_USER, values)
        return to_optional_connection(row.mappings().first())

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


async def set_health(
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
        "kept": to_values(kept),
    }
    return (await connection.execute(statements.SET_HEALTH, values)).first() is not None


def _describe_grant(grant: TokenGrant) -> dict[str, Any]:
    refresh_lifetime = grant.refresh_expires_in
    return {
        "lifetime": float(grant.expires_in),
        "refresh_lifetime": None if refresh_lifetime is None else float(refresh_lifetime),
        "scopes": list(grant.scopes),
    }
