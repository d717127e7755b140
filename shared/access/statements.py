"""Builds the statements that the access service and operators' commands have in common.

Nothing in `shared` executes a writing one.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, insert, select
from sqlalchemy.sql.dml import ReturningInsert

from shared.access.keys import NewKey, Scope
from shared.access.tables import accounts, api_keys, boards

KEY_COLUMNS = [column for column in api_keys.c if column.name != "key_hash"]
"""All columns of a key that an answer may show."""


def insert_key(
    workspace_id: UUID,
    key: NewKey,
    *,
    name: str,
    scopes: Collection[Scope],
    account_ids: Collection[UUID] | None = None,
) -> ReturningInsert[Any]:
    """Returns KEY_COLUMNS of the new key. `account_ids`: its allow-list; None for all accounts."""
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
    """Selects those of the ids that are accounts of the workspace, revoked ones too."""
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
