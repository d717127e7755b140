"""SQL with which keys are managed: always by workspace, what is decided of a key while it is held."""

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Uuid,
    cast,
    func,
    insert,
    select,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.access.keys import NewKey, Scope
from shared.access.model import Principal
from shared.access.repository import KEY_COLUMNS, principal_of, told_apart
from shared.access.tables import accounts, api_keys
from shared.contract.errors import PinflowError
from shared.postgres.database import Database
from shared.postgres.row import Row

# The keys of one workspace are made one after the other, or two at once would both find room
_LOCK = text("select pg_advisory_xact_lock(:lock, hashtext(:workspace))")
LOCK = 7_103_549
"""The class of these locks."""

REVOKED_FOR = timedelta(days=30)
REVOKED_MOST = 200
"""How long, and how many, revoked keys are listed: they stay in the table for ever, and lists of
keys have no pages.
"""

Judge = Callable[[Row, Principal | None], Mapping[str, Any]]
"""Looks at a key and at the one that asks, and returns what is to change; or raises, and nothing
does.
"""
Permit = Callable[[Principal | None], object]
"""Looks at the key that asks; raises, and nothing is made."""


class UnknownAccounts(PinflowError):
    """A key was to have accounts that the workspace does not have."""

    def __init__(self, account_ids: list[UUID]) -> None:
        super().__init__(f"The workspace has no account {', '.join(map(str, account_ids))}.")
        self.account_ids = account_ids


class TooManyKeys(PinflowError):
    """The workspace has as many keys as it may, the revoked ones not counted."""


class KeyRepository:
    """Raises DatabaseUnavailable when Postgres is away.

    `by` is the key that asks. It is held until the end, so that it is neither revoked nor narrowed
    between its look and the write; who judges is shown what it is then, None when it is revoked.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_keys(
        self, workspace_id: UUID, *, within: Collection[UUID] | None = None
    ) -> list[Row]:
        """Active ones, and those that were revoked lately, the newest last.

        `within`: only keys whose accounts lie within these.
        """
        its = (api_keys.c.workspace_id == workspace_id) & _lies_within(within)
        active = select(*KEY_COLUMNS).where(its, api_keys.c.revoked_at.is_(None))
        revoked = select(*KEY_COLUMNS).where(its, api_keys.c.revoked_at > func.now() - REVOKED_FOR)
        revoked = revoked.order_by(api_keys.c.revoked_at.desc(), api_keys.c.id).limit(REVOKED_MOST)
        found = union_all(active, select(revoked.subquery())).subquery()
        return await self._database.all(select(found).order_by(found.c.created_at, found.c.id))

    async def create(
        self,
        workspace_id: UUID,
        key: NewKey,
        *,
        name: str,
        scopes: Collection[Scope],
        account_ids: Collection[UUID] | None = None,
        most: int | None = None,
        by: UUID | None = None,
        permit: Permit | None = None,
    ) -> Row:
        """Raises what `permit` does, NoSuchParent for an unknown workspace, UnknownAccounts,
        TooManyKeys when there are `most` already.
        """
        values = {
            "id": uuid4(),
            "workspace_id": workspace_id,
            "name": name,
            "key_hash": key.hashed,
            "prefix": key.prefix,
            "scopes": [scope.value for scope in scopes],
            "account_ids": None if account_ids is None else list(account_ids),
        }
        with told_apart():
            async with self._database.transaction() as connection:
                if permit is not None:
                    permit(_asking(by, await _held(connection, workspace_id, by)))
                await _require_accounts(connection, workspace_id, account_ids)
                if most is not None:
                    await _require_room(connection, workspace_id, most)
                made = await connection.execute(
                    insert(api_keys).values(**values).returning(*KEY_COLUMNS)
                )
                return dict(made.mappings().one())

    async def change(
        self, workspace_id: UUID, key_id: UUID, judge: Judge, *, by: UUID | None = None
    ) -> Row | None:
        """The key as it is then; None when the workspace has none of that id.

        Raises what `judge` does, and UnknownAccounts.
        """
        async with self._database.transaction() as connection:
            held = await _held(connection, workspace_id, key_id, by)
            if (row := held.get(key_id)) is None:
                return None
            changes = judge(row, _asking(by, held))
            if not changes:
                return row
            await _require_accounts(connection, workspace_id, changes.get("account_ids"))
            its = (api_keys.c.workspace_id == workspace_id) & (api_keys.c.id == key_id)
            changed = await connection.execute(
                update(api_keys).where(its).values(**changes).returning(*KEY_COLUMNS)
            )
            return dict(changed.mappings().one())


def _lies_within(account_ids: Collection[UUID] | None) -> ColumnElement[bool]:
    if account_ids is None:
        return true()
    return api_keys.c.account_ids.bool_op("<@")(cast(list(account_ids), ARRAY(Uuid)))


async def _held(
    connection: AsyncConnection, workspace_id: UUID, *key_ids: UUID | None
) -> dict[UUID, Row]:
    """The keys, locked; in order of ids, or two that change each other deadlock."""
    its = (api_keys.c.workspace_id == workspace_id) & api_keys.c.id.in_(key_ids)
    rows = await connection.execute(
        select(*KEY_COLUMNS).where(its).order_by(api_keys.c.id).with_for_update(key_share=True)
    )
    return {row["id"]: dict(row) for row in rows.mappings()}


def _asking(by: UUID | None, held: Mapping[UUID, Row]) -> Principal | None:
    row = None if by is None else held.get(by)
    return None if row is None or row["revoked_at"] is not None else principal_of(row)


async def _require_accounts(
    connection: AsyncConnection, workspace_id: UUID, account_ids: Collection[UUID] | None
) -> None:
    if account_ids is None:
        return
    query = select(accounts.c.id).where(
        accounts.c.workspace_id == workspace_id, accounts.c.id.in_(list(account_ids))
    )
    known = set((await connection.execute(query)).scalars())
    if unknown := [one for one in account_ids if one not in known]:
        raise UnknownAccounts(unknown)


async def _require_room(connection: AsyncConnection, workspace_id: UUID, most: int) -> None:
    await connection.execute(_LOCK, {"lock": LOCK, "workspace": str(workspace_id)})
    active = (
        select(func.count())
        .select_from(api_keys)
        .where(api_keys.c.workspace_id == workspace_id, api_keys.c.revoked_at.is_(None))
    )
    count = (await connection.execute(active)).scalar_one()
    if count >= most:
        raise TooManyKeys(f"{count} of {most}")
