"""Builds the SQL statements that the access service and operators' commands share.

No module in `shared` executes those that write.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, insert, select
from sqlalchemy.sql.dml import ReturningInsert

from shared.access.keys import NewKey, Scope
from shared.access.tables import accounts, api_keys, boards

KEY_COLUMNS = [column for column in api_keys.c if column.name != "key_hash"]
"""The columns of a key that an answer may contain: all except the hash."""


def insert_key(
    workspace_id: UUID,
    key: NewKey,
    *,
    name: str,
    scopes: Collection[Scope],
    account_ids: Collection[UUID] | None = None,
) -> ReturningInsert[Any]:
    """Builds the insert of a key, which returns KEY_COLUMNS.

    `account_ids` is the key's allow-list; None allows all accounts.
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
    return insert(api_keys).values(**values).returning(*KEY_COLUMNS)


def select_existing_accounts(workspace_id: UUID, account_ids: Collection[UUID]) -> Select[Any]:
    """Builds a query of the ids that are accounts of the workspace. Revoked accounts count."""
    return select(accounts.c.id).where(
        accounts.c.workspace_id == workspace_id, accounts.c.id.in_(list(account_ids))
    )


def select_accounts(workspace_id: UUID) -> Select[Any]:
    return (
        select(accounts)
        .where(accounts.c.workspace_id == workspace_id)
        .order_by(accounts.c.created_at)
    )


def select_boards(account_id: UUID) -> Select[Any]:
    return select(boards).where(boards.c.account_id == account_id).order_by(boards.c.board_id)


def matches_account(workspace_id: UUID, account_id: UUID) -> ColumnElement[bool]:
    return and_(accounts.c.workspace_id == workspace_id, accounts.c.id == account_id)
