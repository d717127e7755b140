"""Holds the SQL of attempts to connect an account."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, literal, select, update
from sqlalchemy.sql.dml import ReturningInsert

from services.access.oauth.tables import oauth_attempts as attempts
from shared.contract.errors import ErrorCode
from shared.postgres.database import Database
from shared.postgres.row import Row

_IS_EXPIRED = (attempts.c.expires_at <= func.now()).label("is_expired")


class AttemptRepository:
    """Reads and writes attempts. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        attempt_id: UUID,
        workspace_id: UUID,
        account_id: UUID | None,
        *,
        lifetime: timedelta,
        limit: int,
    ) -> Row | None:
        """Creates an attempt. Returns None if the workspace has `limit` attempts in progress.

        Requests at the same time may exceed the limit a little: it only bounds the table.
        """
        in_progress = (
            select(func.count())
            .select_from(attempts)
            .where(
                attempts.c.workspace_id == workspace_id,
                attempts.c.expires_at > func.now(),
                # Denied ones count: anybody who has their state can make any number of them
                attempts.c.connected_account_id.is_(None),
            )
            .scalar_subquery()
        )
        values = select(
            literal(attempt_id, attempts.c.id.type),
            literal(workspace_id, attempts.c.workspace_id.type),
            literal(account_id, attempts.c.account_id.type),
            func.now() + lifetime,
        ).where(in_progress < limit)
        statement: ReturningInsert[tuple[object]] = (
            insert(attempts)
            .from_select(["id", "workspace_id", "account_id", "expires_at"], values)
            .returning(attempts, _IS_EXPIRED)
        )
        return await self._database.fetch_first(statement)

    async def take(self, attempt_id: UUID) -> Row | None:
        """Marks an attempt as used. Returns None if it is used, expired or unknown.

        The update is atomic: of several callbacks with one state, one gets the attempt.
        """
        statement = (
            update(attempts)
            .where(
                attempts.c.id == attempt_id,
                attempts.c.used_at.is_(None),
                attempts.c.expires_at > func.now(),
            )
            .values(used_at=func.now())
            .returning(attempts)
        )
        return await self._database.fetch_first(statement)

    async def release(self, attempt_id: UUID) -> None:
        """Makes an attempt usable again, because its code was surely not used."""
        await self._update(attempt_id, used_at=None)

    async def store_account(self, attempt_id: UUID, account_id: UUID) -> None:
        await self._update(attempt_id, connected_account_id=account_id)

    async def store_failure(self, attempt_id: UUID, code: ErrorCode, message: str) -> None:
        await self._update(attempt_id, error_code=code.value, error_message=message)

    async def find(self, attempt_id: UUID) -> Row | None:
        """Returns an attempt, with `is_expired`. The caller checks its workspace."""
        return await self._database.fetch_first(
            select(attempts, _IS_EXPIRED).where(attempts.c.id == attempt_id)
        )

    async def delete_old(self, kept: timedelta, limit: int) -> int:
        """Deletes attempts that expired so long ago. Returns their number."""
        old = (
            select(attempts.c.id)
            .where(attempts.c.expires_at < func.now() - kept)
            .order_by(attempts.c.expires_at)
            .limit(limit)
        )
        async with self._database.transaction() as connection:
            result = await connection.execute(delete(attempts).where(attempts.c.id.in_(old)))
            return result.rowcount

    async def _update(self, attempt_id: UUID, **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                update(attempts).where(attempts.c.id == attempt_id).values(**values)
            )
