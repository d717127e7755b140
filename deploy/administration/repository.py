"""Holds the SQL of the operator's commands on the schema `access`, run as the database's owner."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Executable, case, exc, exists, func, insert, select, update

from shared.access.connection_health import RECONNECT_CODES
from shared.access.keys import NewKey, Scope
from shared.access.statements import (
    KEY_COLUMNS,
    insert_key,
    matches_account,
    select_accounts,
    select_boards,
    select_existing_accounts,
)
from shared.access.tables import accounts, api_keys, boards, connections, workspaces
from shared.contract.errors import PinflowError
from shared.postgres.database import Database
from shared.postgres.row import Row


class NoSuchParent(PinflowError):
    """The workspace or account that a new object belongs to does not exist."""


class AlreadyExists(PinflowError):
    """The account already has a board with this id."""


class OperatorRepository:
    """Reads and writes the schema `access`. All methods raise DatabaseUnavailable if Postgres is
    down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_workspace(self, name: str) -> UUID:
        workspace_id = uuid4()
        await self._write(insert(workspaces).values(id=workspace_id, name=name))
        return workspace_id

    async def list_workspaces(self) -> list[Row]:
        return await self._database.fetch_all(select(workspaces).order_by(workspaces.c.created_at))

    async def find_workspace(self, workspace_id: UUID) -> Row | None:
        statement = select(workspaces).where(workspaces.c.id == workspace_id)
        return await self._database.fetch_first(statement)

    async def create_key(
        self,
        workspace_id: UUID,
        key: NewKey,
        *,
        name: str,
        scopes: Collection[Scope],
        account_ids: Collection[UUID] | None = None,
    ) -> Row:
        """Returns KEY_COLUMNS of the new row. Raises NoSuchParent if the workspace is unknown."""
        with translate_integrity_errors():
            statement = insert_key(
                workspace_id, key, name=name, scopes=scopes, account_ids=account_ids
            )
            (row,) = await self._database.fetch_all(statement)
            return row

    async def find_accounts(self, workspace_id: UUID, account_ids: Collection[UUID]) -> set[UUID]:
        """Returns the ids that belong to accounts of the workspace."""
        rows = await self._database.fetch_all(select_existing_accounts(workspace_id, account_ids))
        return {row["id"] for row in rows}

    async def list_keys(self, workspace_id: UUID) -> list[Row]:
        """Returns all keys of the workspace, including revoked ones, oldest first."""
        query = select(*KEY_COLUMNS).where(api_keys.c.workspace_id == workspace_id)
        return await self._database.fetch_all(query.order_by(api_keys.c.created_at, api_keys.c.id))

    async def revoke_key(self, key_id: UUID) -> bool:
        """Returns False for an unknown key. A second call keeps the first revocation's time."""
        statement = (
            update(api_keys)
            .where(api_keys.c.id == key_id)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
            .returning(api_keys.c.id)
        )
        return await self._database.fetch_first(statement) is not None

    async def add_account(self, workspace_id: UUID, *, name: str) -> UUID:
        """Raises NoSuchParent if the workspace is unknown."""
        account_id = uuid4()
        values = {
            "id": account_id,
            "workspace_id": workspace_id,
            "display_name": name,
            "username": "-".join(name.lower().split()),
        }
        await self._write(insert(accounts).values(**values))
        return account_id

    async def list_accounts(self, workspace_id: UUID) -> list[Row]:
        """Returns the accounts, each with its connection to Pinterest."""
        return await self._database.fetch_all(_select_accounts_with_connections(workspace_id))

    async def restore_account(self, workspace_id: UUID, account_id: UUID) -> Row | None:
        """Returns `is_disconnected`: whether it was connected to Pinterest, and no longer is.

        Returns None for an unknown account.
        """
        is_disconnected = exists().where(
            connections.c.account_id == accounts.c.id, connections.c.disconnected_at.is_not(None)
        )
        statement = (
            update(accounts)
            .where(matches_account(workspace_id, account_id))
            .values(revoked_at=None, updated_at=func.now())
            .returning(is_disconnected.label("is_disconnected"))
        )
        return await self._database.fetch_first(statement)

    async def add_board(
        self, workspace_id: UUID, account_id: UUID, board_id: str, *, name: str
    ) -> None:
        """Adds a board to an account.

        Raises NoSuchParent if the workspace does not have the account, and AlreadyExists if the
        account has the board.
        """
        values = {
            "workspace_id": workspace_id,
            "account_id": account_id,
            "board_id": board_id,
            "name": name,
        }
        await self._write(insert(boards).values(**values))

    async def list_boards(self, workspace_id: UUID, account_id: UUID) -> list[Row] | None:
        """Returns None if the workspace does not have the account."""
        if not await self.find_accounts(workspace_id, [account_id]):
            return None
        return await self._database.fetch_all(select_boards(account_id))

    async def _write(self, statement: Executable) -> None:
        with translate_integrity_errors():
            async with self._database.transaction() as connection:
                await connection.execute(statement)


def _select_accounts_with_connections(workspace_id: UUID) -> Executable:
    """Selects accounts with their connections and the state of these.

    `health_status` is the one of the API, but for a connection of another mode: only the access
    service knows its mode.
    """
    is_disconnected = connections.c.disconnected_at.is_not(None)
    is_given_up = connections.c.health_code.in_(RECONNECT_CODES)
    problem = func.coalesce(connections.c.health_message, connections.c.boards_message)
    state = case(
        (connections.c.account_id.is_(None), "none"),
        (is_disconnected, "disconnected"),
        (is_given_up, "reconnect_required"),
        else_="connected",
    )
    health_status = case(
        (accounts.c.revoked_at.is_not(None), "revoked"),
        (is_disconnected | is_given_up, "reconnect_required"),
        (problem.is_not(None), "degraded"),
        else_="healthy",
    )
    return (
        select_accounts(workspace_id)
        .outerjoin(connections, connections.c.account_id == accounts.c.id)
        .add_columns(
            state.label("connection"),
            connections.c.mode,
            health_status.label("health_status"),
            connections.c.health_code,
            connections.c.scopes,
            case((~is_disconnected, connections.c.token_expires_at)).label("token_expires_at"),
        )
    )


@contextmanager
def translate_integrity_errors() -> Iterator[None]:
    """Raises NoSuchParent or AlreadyExists if a statement violates a constraint."""
    try:
        yield
    except exc.IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.ForeignKeyViolation):
            raise NoSuchParent(
                f"The workspace or account does not exist. {error.orig.diag.message_detail} See "
                "all with: pinflow workspaces list, pinflow accounts list"
            ) from error
        if isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise AlreadyExists(
                f"The account already has this board. {error.orig.diag.message_detail} See its "
                "boards with: pinflow boards list ACCOUNT"
            ) from error
        raise
