"""Holds the SQL of API keys, always by workspace. A key is locked while it is decided on."""

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

# The keys of one workspace are made one after the other, or two at once would both find room
_LOCK = text("select pg_advisory_xact_lock(:lock, hashtext(:workspace))")
LOCK = 7_103_549
"""The class of these locks."""

REVOKED_FOR = timedelta(days=30)
MAX_REVOKED = 200
"""How long, and how many, revoked keys are listed: they stay in the table for ever, and lists of
keys have no pages.
"""

# In order of ids, as every process reports the same keys. What another has just written stands: one
# write a minute is meant
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
    """One transaction on a workspace's keys. It is committed when the block ends."""

    workspace_id: UUID
    key: Row | None
    """The key to be changed; None if the workspace has none of that id, or none was named."""
    asking: Principal | None
    """The asking key as it is now; None if it is revoked, or was not named."""
    _connection: AsyncConnection

    async def known_accounts(self, account_ids: Collection[UUID]) -> set[UUID]:
        """Returns those of the ids that are accounts of the workspace."""
        found = await self._connection.execute(
            select_existing_accounts(self.workspace_id, account_ids)
        )
        return set(found.scalars())

    async def count_active_keys(self) -> int:
        """Counts the keys that are not revoked. No other key is made until the block ends."""
        await self._connection.execute(_LOCK, {"lock": LOCK, "workspace": str(self.workspace_id)})
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
        """Changes columns of a locked key, and returns it as it is then."""
        its = (api_keys.c.workspace_id == self.workspace_id) & (api_keys.c.id == key_id)
        changed = await self._connection.execute(
            update(api_keys).where(its).values(**changes).returning(*KEY_COLUMNS)
        )
        return dict(changed.mappings().one())

    async def revoke(self, key_id: UUID) -> None:
        await self.update(key_id, {"revoked_at": func.now()})


class KeyRepository:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_keys(
        self, workspace_id: UUID, *, within: Collection[UUID] | None = None
    ) -> list[Row]:
        """Returns the active keys and those that were revoked lately, the newest last.

        `within`: only keys whose accounts lie within these.
        """
        its = (api_keys.c.workspace_id == workspace_id) & _lies_within(within)
        active = select(*KEY_COLUMNS).where(its, api_keys.c.revoked_at.is_(None))
        revoked = select(*KEY_COLUMNS).where(its, api_keys.c.revoked_at > func.now() - REVOKED_FOR)
        revoked = revoked.order_by(api_keys.c.revoked_at.desc(), api_keys.c.id).limit(MAX_REVOKED)
        found = union_all(active, select(revoked.subquery())).subquery()
        return await self._database.fetch_all(
            select(found).order_by(found.c.created_at, found.c.id)
        )

    @asynccontextmanager
    async def locked(
        self, workspace_id: UUID, key_id: UUID | None = None, *, by: UUID | None = None
    ) -> AsyncIterator[LockedKeys]:
        """Locks the key `key_id` and the asking key `by` until the block ends.

        So the asking key is neither revoked nor narrowed between the decision and the write.
        """
        async with self._database.transaction() as connection:
            keys = await _lock(connection, workspace_id, {key_id, by} - {None})
            yield LockedKeys(
                workspace_id, keys.get(key_id), _principal_of(keys.get(by)), connection
            )

    async def mark_used(self, key_ids: Collection[UUID]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_MARK_USED, {"ids": list(key_ids)})


def _lies_within(account_ids: Collection[UUID] | None) -> ColumnElement[bool]:
    if account_ids is None:
        return true()
    return api_keys.c.account_ids.bool_op("<@")(cast(list(account_ids), ARRAY(Uuid)))


async def _lock(
    connection: AsyncConnection, workspace_id: UUID, key_ids: Collection[UUID | None]
) -> dict[UUID | None, Row]:
    # In order of ids, or two keys that change each other deadlock
    its = (api_keys.c.workspace_id == workspace_id) & api_keys.c.id.in_(key_ids)
    rows = await connection.execute(
        select(*KEY_COLUMNS).where(its).order_by(api_keys.c.id).with_for_update(key_share=True)
    )
    return {row["id"]: dict(row) for row in rows.mappings()}


def _principal_of(key: Row | None) -> Principal | None:
    return None if key is None or key["revoked_at"] is not None else Principal.from_key(key)
