"""Holds the SQL of accounts and boards, always by workspace."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, and_, case, delete, false, func, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.access.statements import matches_account, select_accounts, select_boards
from shared.access.tables import accounts, boards
from shared.contract.errors import PinflowError
from shared.postgres.database import Database
from shared.postgres.row import Row


class UnknownAccount(PinflowError):
    """The workspace does not have the account."""


class AccountRevoked(PinflowError):
    """Nothing can be added to the account any more."""


class TooManyBoards(PinflowError):
    """The account has as many boards as it may."""


class BoardRepository:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_accounts(self, workspace_id: UUID) -> list[Row]:
        return await self._database.fetch_all(select_accounts(workspace_id))

    async def list_boards(self, workspace_id: UUID, account_id: UUID) -> list[Row] | None:
        """Returns None for an unknown account."""
        query = select(accounts.c.id).where(matches_account(workspace_id, account_id))
        if await self._database.fetch_first(query) is None:
            return None
        return await self._database.fetch_all(select_boards(account_id))

    async def create_board(
        self,
        workspace_id: UUID,
        account_id: UUID,
        board_id: str,
        values: Mapping[str, Any],
        *,
        limit: int,
    ) -> tuple[Row, bool]:
        """Returns the board under that id, and whether this call made it.

        Raises UnknownAccount, AccountRevoked, and TooManyBoards beyond `limit`.
        """
        # Held, so that two at once don't both find room, and none is added to an account that is
        # being revoked
        holding = (
            select(accounts.c.revoked_at)
            .where(matches_account(workspace_id, account_id))
            .with_for_update(key_share=True)
        )
        new = insert(boards).values(
            workspace_id=workspace_id, account_id=account_id, board_id=board_id, **values
        )
        async with self._database.transaction() as connection:
            account = (await connection.execute(holding)).mappings().first()
            if account is None:
                raise UnknownAccount(f"no account {account_id}")
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
            if count > limit:
                raise TooManyBoards(f"{limit}")
            return dict(made), True

    async def update_board(
        self, workspace_id: UUID, account_id: UUID, board_id: str, changes: Mapping[str, Any]
    ) -> Row | None:
        """Returns None for an unknown board or account."""
        statement = (
            update(boards)
            .where(_board(workspace_id, account_id, board_id))
            .values(**changes)
            .returning(boards)
        )
        return await self._database.fetch_first(statement)

    async def delete_board(self, workspace_id: UUID, account_id: UUID, board_id: str) -> bool:
        """Returns False if there was none."""
        statement = (
            delete(boards)
            .where(_board(workspace_id, account_id, board_id))
            .returning(boards.c.board_id)
        )
        return await self._database.fetch_first(statement) is not None

    async def find(
        self, workspace_id: UUID, account_id: UUID, board_id: str
    ) -> tuple[Row | None, Row | None]:
        """Returns an account and a board of it, each None if there is none."""
        async with self._database.transaction() as connection:
            account = await connection.execute(
                select(accounts).where(matches_account(workspace_id, account_id))
            )
            board = await connection.execute(
                select(boards).where(_board(workspace_id, account_id, board_id))
            )
            return _one(account), _one(board)

    async def revoke_account(self, workspace_id: UUID, account_id: UUID) -> bool:
        """Returns False for an unknown account. Revoking again keeps the first time."""
        # Both from the row as it was before
        changes = {
            "revoked_at": func.coalesce(accounts.c.revoked_at, func.now()),
            "updated_at": case(
                (accounts.c.revoked_at.is_(None), func.now()), else_=accounts.c.updated_at
            ),
        }
        statement = (
            update(accounts)
            .where(matches_account(workspace_id, account_id))
            .values(**changes)
            .returning(accounts.c.id)
        )
        return await self._database.fetch_first(statement) is not None


def _one(found: CursorResult[Any]) -> Row | None:
    row = found.mappings().first()
    return None if row is None else dict(row)


def _board(workspace_id: UUID, account_id: UUID, board_id: str) -> ColumnElement[bool]:
    if "\0" in board_id:  # Postgres' text holds none, and would refuse the question
        return false()
    return and_(
        boards.c.workspace_id == workspace_id,
        boards.c.account_id == account_id,
        boards.c.board_id == board_id,
    )
