"""SQL on the schema `access` that every service and the operator need.

Managing over HTTP: key_repository.py, destination_repository.py.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Insert, exc, func, insert, select, text, update

from shared.access.keys import NewKey, Scope
from shared.access.model import AlreadyThere, BoardCheck, Destination, NoSuchParent, Principal
from shared.access.tables import accounts, api_keys, boards, workspaces
from shared.postgres.database import Database
from shared.postgres.row import Row

_CHECK = text("""
    select d.workspace_id, d.account_id, d.board_id, a.id is not null as has_account, b.board_id is not null as has_board
    from unnest(cast(:workspaces as uuid[]), cast(:accounts as uuid[]), cast(:boards as text[])) as d(workspace_id, account_id, board_id)
    left join access.accounts a on a.workspace_id = d.workspace_id and a.id = d.account_id and a.revoked_at is null
    left join access.boards b on b.account_id = a.id and b.board_id = d.board_id
""")

# In order of ids, as every process writes the same keys. What another has just written stands: one
# write a minute is meant
_MARK_USED = text("""
    with used as materialized (
        select id from access.api_keys
        where id = any(cast(:ids as uuid[])) and (last_used_at is null or last_used_at < now() - interval '30 seconds')
        order by id for no key update
    )
    update access.api_keys k set last_used_at = now() from used where k.id = used.id
""")

KEY_COLUMNS = [column for column in api_keys.c if column.name != "key_hash"]
"""All that anyone may be told of a key."""


def principal_of(key: Row) -> Principal:
    """What a key may do that is not revoked."""
    account_ids = None if key["account_ids"] is None else frozenset(key["account_ids"])
    return Principal(key["workspace_id"], key["id"], frozenset(key["scopes"]), account_ids)


class AccessRepository:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_principal(self, key_hash: bytes) -> Principal | None:
        """Whose key it is, unless revoked."""
        query = select(
            api_keys.c.workspace_id, api_keys.c.id, api_keys.c.scopes, api_keys.c.account_ids
        )
        row = await self._database.first(
            query.where(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
        )
        return None if row is None else principal_of(row)

    async def workspace_exists(self, workspace_id: UUID) -> bool:
        return (
            await self._database.first(
                select(workspaces.c.id).where(workspaces.c.id == workspace_id)
            )
            is not None
        )

    async def account_exists(self, workspace_id: UUID, account_id: UUID) -> bool:
        """Whether the workspace has it, revoked or not."""
        query = select(accounts.c.id).where(
            accounts.c.workspace_id == workspace_id, accounts.c.id == account_id
        )
        return await self._database.first(query) is not None

    async def mark_used(self, key_ids: Collection[UUID]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_MARK_USED, {"ids": list(key_ids)})

    async def check_boards(
        self, destinations: Collection[Destination]
    ) -> dict[Destination, BoardCheck]:
        """What each destination is, in one statement."""
        # Postgres' text holds no NUL: such a board is on no account, and must not fail the question
        # about the others
        asked = [one for one in destinations if "\0" not in one.board_id]
        impossible = {one: BoardCheck.NO_BOARD for one in destinations if "\0" in one.board_id}
        values = {
            "workspaces": [one.workspace_id for one in asked],
            "accounts": [one.account_id for one in asked],
            "boards": [one.board_id for one in asked],
        }
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_CHECK, values)).all()
        return impossible | {
            Destination(row.workspace_id, row.account_id, row.board_id): _board_check(
                has_account=row.has_account, has_board=row.has_board
            )
            for row in rows
        }

    async def create_workspace(self, name: str) -> UUID:
        workspace_id = uuid4()
        await self._write(insert(workspaces).values(id=workspace_id, name=name))
        return workspace_id

    async def create_key(
        self, workspace_id: UUID, key: NewKey, *, name: str, scopes: Collection[Scope]
    ) -> UUID:
        """Raises NoSuchParent for an unknown workspace."""
        key_id = uuid4()
        values = {
            "id": key_id,
            "workspace_id": workspace_id,
            "name": name,
            "key_hash": key.hashed,
            "prefix": key.prefix,
        }
        await self._write(
            insert(api_keys).values(**values, scopes=[scope.value for scope in scopes])
        )
        return key_id

    async def revoke_key(self, key_id: UUID) -> bool:
        """False for a key that does not exist; revoking twice keeps the first time."""
        statement = (
            update(api_keys)
            .where(api_keys.c.id == key_id)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
            .returning(api_keys.c.id)
        )
        return await self._database.first(statement) is not None

    async def add_account(self, workspace_id: UUID, *, name: str) -> UUID:
        """Raises NoSuchParent for an unknown workspace."""
        account_id = uuid4()
        username = "-".join(name.lower().split())
        await self._write(
            insert(accounts).values(
                id=account_id, workspace_id=workspace_id, display_name=name, username=username
            )
        )
        return account_id

    async def add_board(
        self, workspace_id: UUID, account_id: UUID, board_id: str, *, name: str
    ) -> None:
        """Raises NoSuchParent for an account that the workspace does not have, AlreadyThere for a
        board that it has.
        """
        values = {
            "workspace_id": workspace_id,
            "account_id": account_id,
            "board_id": board_id,
            "name": name,
        }
        await self._write(insert(boards).values(**values))

    async def list_workspaces(self) -> list[Row]:
        return await self._database.all(select(workspaces).order_by(workspaces.c.created_at))

    async def list_keys(self, workspace_id: UUID) -> list[Row]:
        query = select(*KEY_COLUMNS).where(api_keys.c.workspace_id == workspace_id)
        return await self._database.all(query.order_by(api_keys.c.created_at, api_keys.c.id))

    async def list_accounts(self, workspace_id: UUID) -> list[Row]:
        return await self._database.all(
            select(accounts)
            .where(accounts.c.workspace_id == workspace_id)
            .order_by(accounts.c.created_at)
        )

    async def list_boards(self, workspace_id: UUID, account_id: UUID) -> list[Row] | None:
        """None for an account that the workspace does not have."""
        if not await self.account_exists(workspace_id, account_id):
            return None
        return await self._database.all(
            select(boards).where(boards.c.account_id == account_id).order_by(boards.c.board_id)
        )

    async def _write(self, statement: Insert) -> None:
        with told_apart():
            async with self._database.transaction() as connection:
                await connection.execute(statement)


@contextmanager
def told_apart() -> Iterator[None]:
    """What constraints refuse: NoSuchParent or AlreadyThere."""
    try:
        yield
    except exc.IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.ForeignKeyViolation):
            raise NoSuchParent(str(error.orig.diag.message_detail)) from error
        if isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise AlreadyThere(str(error.orig.diag.message_detail)) from error
        raise


def _board_check(*, has_account: bool, has_board: bool) -> BoardCheck:
    if not has_account:
        return BoardCheck.NO_ACCOUNT
    return BoardCheck.KNOWN if has_board else BoardCheck.NO_BOARD
