"""SQL with which accounts and boards are managed: always by workspace."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, and_, case, delete, false, func, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.access.model import NoSuchParent
from shared.access.tables import accounts, boards
from shared.contract.errors import PinflowError
from shared.postgres.database import Database
from shared.postgres.row import Row


class AccountRevoked(PinflowError):
    """Nothing can be added to the account any more."""


class TooManyBoards(PinflowError):
    """The account has as many boards as it may."""


class DestinationRepository:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_board(
        self,
        workspace_id: UUID,
        account_id: UUID,
        board_id: str,
        values: Mapping[str, Any],
        *,
        most: int,
    ) -> tuple[Row, bool]:
        """The board under that id, and whether this call made it.

        Raises NoSuchParent, AccountRevoked, TooManyBoards.
        """
        # Held, so that two at once don't both find room, and none is added to an account that is
        # being revoked
        holding = (
            select(accounts.c.revoked_at)
            .where(_account(workspace_id, account_id))
            .with_for_update(key_share=True)
        )
        new = insert(boards).values(
            workspace_id=workspace_id, account_id=account_id, board_id=board_id, **values
        )
        async with self._database.transaction() as connection:
            account = (await connection.execute(holding)).mappings().first()
            if account is None:
                raise NoSuchParent(f"no account {account_id}")
            if account["revoked_at"] is not None:
                raise AccountRevoked(f"account {account_id}")
            made = (
                (await connection.execute(new.on_conflict_do_nothing().returning(boards)))
                .mappings()
                .first()
            )
            if made is None:
                stands = await connection.execute(
                    select(boards).where(_board(workspace_id, account_id, board_id))
                )
                return dict(stands.mappings().one()), False
            count = (
                await connection.execute(
                    select(func.count()).where(boards.c.account_id == account_id)
                )
            ).scalar_one()
            if count > most:
                raise TooManyBoards(f"{most}")
            return dict(made), True

    async def update_board(
        self, workspace_id: UUID, account_id: UUID, board_id: str, changes: Mapping[str, Any]
    ) -> Row | None:
        """None for a board that the account does not have, or an account that the workspace does
        not have.
        """
        statement = (
            update(boards)
            .where(_board(workspace_id, account_id, board_id))
            .values(**changes)
            .returning(boards)
        )
        return await self._database.first(statement)

    async def delete_board(self, workspace_id: UUID, account_id: UUID, board_id: str) -> bool:
        """False when there was none."""
        statement = (
            delete(boards)
            .where(_board(workspace_id, account_id, board_id))
            .returning(boards.c.board_id)
        )
        return await self._database.first(statement) is not None

    async def find(
        self, workspace_id: UUID, account_id: UUID, board_id: str
    ) -> tuple[Row | None, Row | None]:
        """An account and a board of it, either None when there is none."""
        async with self._database.transaction() as connection:
            account = await connection.execute(
                select(accounts).where(_account(workspace_id, account_id))
            )
            board = await connection.execute(
                select(boards).where(_board(workspace_id, account_id, board_id))
            )
            return _one(account), _one(board)

    async def revoke_account(self, workspace_id: UUID, account_id: UUID) -> bool:
        """False for an account that the workspace does not have; revoking twice keeps the first
        time.
        """
        # Both from the row as it was before
        changed = {
            "revoked_at": func.coalesce(accounts.c.revoked_at, func.now()),
            "updated_at": case(
                (accounts.c.revoked_at.is_(None), func.now()), else_=accounts.c.updated_at
            ),
        }
        return await self._changed(workspace_id, account_id, changed)

    async def restore_account(self, workspace_id: UUID, account_id: UUID) -> bool:
        """False for an account that the workspace does not have."""
        return await self._changed(
            workspace_id, account_id, {"revoked_at": None, "updated_at": func.now()}
        )

    async def _changed(
        self, workspace_id: UUID, account_id: UUID, changes: Mapping[str, Any]
    ) -> bool:
        statement = (
            update(accounts)
            .where(_account(workspace_id, account_id))
            .values(**changes)
            .returning(accounts.c.id)
        )
        return await self._database.first(statement) is not None


def _one(found: CursorResult[Any]) -> Row | None:
    row = found.mappings().first()
    return None if row is None else dict(row)


def _account(workspace_id: UUID, account_id: UUID) -> ColumnElement[bool]:
    return and_(accounts.c.workspace_id == workspace_id, accounts.c.id == account_id)


def _board(workspace_id: UUID, account_id: UUID, board_id: str) -> ColumnElement[bool]:
    if "\0" in board_id:  # Postgres' text holds none, and would refuse the question
        return false()
    return and_(
        boards.c.workspace_id == workspace_id,
        boards.c.account_id == account_id,
        boards.c.board_id == board_id,
    )
