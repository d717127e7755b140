"""Reads accounts together with their connections."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, update

from shared.access.statements import matches_account
from shared.access.tables import accounts, connections, workspaces
from shared.postgres.database import Database
from shared.postgres.row import Row

_PREFIX = "connection_"


class AccountRepository:
    """Reads and writes the accounts of a workspace. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_accounts(self, workspace_id: UUID) -> list[Row]:
        """Lists accounts, each with its connection, or None, under `connection`."""
        query = select_accounts_with_connections(accounts.c.workspace_id == workspace_id)
        rows = await self._database.fetch_all(query.order_by(accounts.c.created_at))
        return [nest_connection(row) for row in rows]

    async def find(self, workspace_id: UUID, account_id: UUID) -> Row | None:
        """Returns an account with its connection, or None if the workspace does not have it."""
        query = select_accounts_with_connections(matches_account(workspace_id, account_id))
        row = await self._database.fetch_first(query)
        return None if row is None else nest_connection(row)

    async def workspace_exists(self, workspace_id: UUID) -> bool:
        query = select(workspaces.c.id).where(workspaces.c.id == workspace_id)
        return await self._database.fetch_first(query) is not None

    async def claim_refresh(self, account_id: UUID, *, pause: timedelta) -> bool:
        """Returns whether the last claim is at least `pause` ago, and then makes a new one."""
        allowed = func.now() - pause
        statement = (
            update(connections)
            .where(
                connections.c.account_id == account_id,
                func.coalesce(connections.c.refresh_asked_at, allowed) <= allowed,
            )
            .values(refresh_asked_at=func.now())
            .returning(connections.c.account_id)
        )
        return await self._database.fetch_first(statement) is not None

    async def rename(self, account_id: UUID, username: str) -> None:
        """Stores the user name that Pinterest reports, if it has changed."""
        statement = (
            update(accounts)
            .where(accounts.c.id == account_id, accounts.c.username != username)
            .values(username=username, updated_at=func.now())
            .returning(accounts.c.id)
        )
        await self._database.fetch_first(statement)


def select_accounts_with_connections(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Builds a query of accounts. `nest_connection` reads its rows."""
    connection = [column.label(f"{_PREFIX}{column.name}") for column in connections.c]
    joined = accounts.outerjoin(connections, connections.c.account_id == accounts.c.id)
    return select(accounts, *connection).select_from(joined).where(*conditions)


def nest_connection(row: Row) -> Row:
    """Moves the columns of the connection into a row of its own, under `connection`."""
    columns = dict(row)
    connection = {
        name.removeprefix(_PREFIX): columns.pop(name)
        for name in [*columns]
        if name.startswith(_PREFIX)
    }
    is_connected = connection["account_id"] is not None
    return {**columns, "connection": connection if is_connected else None}
