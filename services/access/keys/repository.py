"""Holds the SQL of API keys. A key is locked while a change is decided.

Every statement is limited to a workspace, except the one that marks keys as used.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Uuid,
    cast,
    func,
    select,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.access.keys import NewKey, Scope
from shared.access.model import Principal
from shared.access.statements import KEY_COLUMNS, insert_key, select_existing_accounts
from shared.access.tables import api_keys
from shared.postgres.database import Database
from shared.postgres.row import Row

# Keys of one workspace are created one after the other, or two concurrent requests could both pass
# the limit
_LOCK_WORKSPACE = text("select pg_advisory_xact_lock(:lock_class, hashtext(:workspace))")
LOCK_CLASS = 7_103_549
"""The class (first number) of these advisory locks."""

REVOKED_LISTED_FOR = timedelta(days=30)
MAX_REVOKED = 200
"""Limits of revoked keys in a list.

Revoked keys stay in the table forever, and the list has no pages.
"""

# In the order of the ids, because all processes report the same keys and could deadlock. A time
# that another process wrote in the last 30 seconds is kept: two writes a minute are enough
_MARK_USED = text("""
    with used as materialized (
        select id from access.api_keys
        where id = any(cast(:ids as uuid[]))
            and (last_used_at is null or last_used_at < now() - interval '30 seconds')
        order by id for no key update
    )
    update access.api_keys k set last_used_at = now() from used where k.id = used.id
""")


@dataclass(frozen=True)
class LockedKeys:
    """A transaction on the keys of a workspace, committed when KeyRepository.lock's block ends."""

    workspace_id: UUID
    key: Row | None
    """The key to change. None if the workspace has no key with that id, or no id was passed."""
    caller: Principal | None
    """The caller's key as it is now. None if it is revoked, or was not passed."""
    _connection: AsyncConnection

    async def find_accounts(self, account_ids: Collection[UUID]) -> set[UUID]:
        """Returns the ids that are accounts of the workspace."""
        rows = await self._connection.execute(
            select_existing_accounts(self.workspace_id, account_ids)
        )
        return set(rows.scalars())

    async def count_active_keys(self) -> int:
        """Counts the keys that are not revoked.

        Until the block ends, no other request creates a key. An operator's command can.
        """
        await self._connection.execute(
            _LOCK_WORKSPACE, {"lock_class": LOCK_CLASS, "workspace": str(self.workspace_id)}
        )
        active = (
            select(func.count())
            .select_from(api_keys)
            .where(api_keys.c.workspace_id == self.workspace_id, api_keys.c.revoked_at.is_(None))
        )
        count: int = (await self._connection.execute(active)).scalar_one()
        return count

    async def create(
        self,
        new: NewKey,
        *,
        name: str,
        scopes: Collection[Scope],
        account_ids: Collection[UUID] | None,
    ) -> Row:
        statement = insert_key(
            self.workspace_id, new, name=name, scopes=scopes, account_ids=account_ids
        )
        return dict((await self._connection.execute(statement)).mappings().one())

    async def update(self, key_id: UUID, changes: Mapping[str, Any]) -> Row:
        """Changes columns of a locked key. Returns the changed key."""
        is_key = (api_keys.c.workspace_id == self.workspace_id) & (api_keys.c.id == key_id)
        updated = await self._connection.execute(
            update(api_keys).where(is_key).values(**changes).returning(*KEY_COLUMNS)
        )
        return dict(updated.mappings().one())

    async def revoke(self, key_id: UUID) -> None:
        await self.update(key_id, {"revoked_at": func.now()})


class KeyRepository:
    """Reads and writes keys. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_keys(
        self, workspace_id: UUID, *, account_ids: Collection[UUID] | None = None
    ) -> list[Row]:
        """Returns the active and the recently revoked keys, newest last.

        `account_ids` selects the keys whose accounts are all in it. None selects all keys.
        """
        is_visible = (api_keys.c.workspace_id == workspace_id) & _has_accounts_within(account_ids)
        active = select(*KEY_COLUMNS).where(is_visible, api_keys.c.revoked_at.is_(None))
        revoked = select(*KEY_COLUMNS).where(
            is_visible, api_keys.c.revoked_at > func.now() - REVOKED_LISTED_FOR
        )
        revoked = revoked.order_by(api_keys.c.revoked_at.desc(), api_keys.c.id).limit(MAX_REVOKED)
        listed = union_all(active, select(revoked.subquery())).subquery()
        return await self._database.fetch_all(
            select(listed).order_by(listed.c.created_at, listed.c.id)
        )

    @asynccontextmanager
    async def lock(
        self, workspace_id: UUID, key_id: UUID | None = None, *, caller_id: UUID | None = None
    ) -> AsyncIterator[LockedKeys]:
        """Locks the key `key_id` and the caller's key `caller_id` until the block ends.

        So the caller's key cannot be revoked or restricted between the decision and the write.
        """
        async with self._database.transaction() as connection:
            keys = await _lock(connection, workspace_id, {key_id, caller_id} - {None})
            yield LockedKeys(
                workspace_id, keys.get(key_id), _build_principal(keys.get(caller_id)), connection
            )

    async def mark_used(self, key_ids: Collection[UUID]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_MARK_USED, {"ids": list(key_ids)})


def _has_accounts_within(account_ids: Collection[UUID] | None) -> ColumnElement[bool]:
    if account_ids is None:
        return true()
    return api_keys.c.account_ids.bool_op("<@")(cast(list(account_ids), ARRAY(Uuid)))


async def _lock(
    connection: AsyncConnection, workspace_id: UUID, key_ids: Collection[UUID | None]
) -> dict[UUID | None, Row]:
    # In the order of the ids, or two requests in which keys change each other could deadlock
    is_key = (api_keys.c.workspace_id == workspace_id) & api_keys.c.id.in_(key_ids)
    rows = await connection.execute(
        select(*KEY_COLUMNS).where(is_key).order_by(api_keys.c.id).with_for_update(key_share=True)
    )
    return {row["id"]: dict(row) for row in rows.mappings()}


def _build_principal(key: Row | None) -> Principal | None:
    return None if key is None or key["revoked_at"] is not None else Principal.from_key(key)
