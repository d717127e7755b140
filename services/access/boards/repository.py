"""Holds the SQL of boards. A caller reaches only the rows of its workspace."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, and_, delete, false, func, select, update
from sqlalchemy.dialects.postgresql import insert

from services.access.accounts.repository import (
    nest_connection,
    select_accounts_with_connections,
)
from shared.access.statements import matches_account, select_boards
from shared.access.tables import accounts, boards
from shared.contract.errors import PinflowError
from shared.postgres.database import Database
from shared.postgres.row import Row


class UnknownAccount(PinflowError):
    """The workspace does not have the account."""


class AccountRevoked(PinflowError):
    """The account is revoked, so nothing can be added to it."""


class TooManyBoards(PinflowError):
    """The account has the maximum number of boards."""


class BoardRepository:
    """Reads and writes boards. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_boards(self, workspace_id: UUID, account_id: UUID) -> list[Row] | None:
        """Lists the boards of an account. Returns None if the account is unknown."""
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
        """Creates a board, if its id is new. Returns the board and whether this call created it.

        Raises UnknownAccount, AccountRevoked, and TooManyBoards above `limit`.
        """
        # Without the row lock, two concurrent requests could both pass the limit, or a board could
        # be added to an account that is being revoked
        lock_account = (
            select(accounts.c.revoked_at)
            .where(matches_account(workspace_id, account_id))
            .with_for_update(key_share=True)
        )
        new = insert(boards).values(
            workspace_id=workspace_id, account_id=account_id, board_id=board_id, **values
        )
        async with self._database.transaction() as connection:
            account = (await connection.execute(lock_account)).mappings().first()
            if account is None:
                raise UnknownAccount(f"The workspace has no account {account_id}.")
            if account["revoked_at"] is not None:
                raise AccountRevoked(f"The account {account_id} is revoked.")
            created = (
                (await connection.execute(new.on_conflict_do_nothing().returning(boards)))
                .mappings()
                .first()
            )
            if created is None:
                existing = await connection.execute(
                    select(boards).where(_matches_board(workspace_id, account_id, board_id))
                )
                return dict(existing.mappings().one()), False
            count = (
                await connection.execute(
                    select(func.count()).where(boards.c.account_id == account_id)
                )
            ).scalar_one()
            if count > limit:
                raise TooManyBoards(f"The account has reached its limit of {limit} boards.")
            return dict(created), True

    async def update_board(
        self, workspace_id: UUID, account_id: UUID, board_id: str, changes: Mapping[str, Any]
    ) -> Row | None:
        """Changes a board. Returns None if the board or account is unknown."""
        statement = (
            update(boards)
            .where(_matches_board(workspace_id, account_id, board_id))
            .values(**changes)
            .returning(boards)
        )
        return await self._database.fetch_first(statement)

    async def delete_board(self, workspace_id: UUID, account_id: UUID, board_id: str) -> bool:
        """Deletes a board. Returns False if it did not exist."""
        statement = (
            delete(boards)
            .where(_matches_board(workspace_id, account_id, board_id))
            .returning(boards.c.board_id)
        )
        return await self._database.fetch_first(statement) is not None

    async def find_account_and_board(
        self, workspace_id: UUID, account_id: UUID, board_id: str
    ) -> tuple[Row | None, Row | None]:
        """Returns an account and one of its boards. Each is None if it does not exist.

        The account has its connection, or None, under `connection`.
        """
        async with self._database.transaction() as connection:
            account = await connection.execute(
                select_accounts_with_connections(matches_account(workspace_id, account_id))
            )
            board = await connection.execute(
                select(boards).where(_matches_board(workspace_id, account_id, board_id))
            )
            row = first_row(account)
            return (None if row is None else nest_connection(row)), first_row(board)


def first_row(result: CursorResult[Any]) -> Row | None:
    row = result.mappings().first()
    return None if row is None else dict(row)


def _matches_board(workspace_id: UUID, account_id: UUID, board_id: str) -> ColumnElement[bool]:
    if "\0" in board_id:  # Postgres can't store NUL and would reject the query
        return false()
    return and_(
        boards.c.workspace_id == workspace_id,
        boards.c.account_id == account_id,
        boards.c.board_id == board_id,
    )
