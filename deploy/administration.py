"""What an operator does in one go, for the command line and the local stack alike."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from services.access.keys.repository import KeyRepository
from shared.access.keys import Scope, new_api_key
from shared.access.repository import AccessRepository
from shared.postgres.database import Database
from shared.postgres.row import Row

FIRST_KEY = "first key"


class NewAccount(NamedTuple):
    id: UUID
    boards: list[str]


class NewWorkspace(NamedTuple):
    id: UUID
    api_key: str
    accounts: list[NewAccount]


async def create_key(
    database: Database,
    workspace_id: UUID,
    *,
    name: str,
    scopes: Sequence[Scope],
    account_ids: Sequence[UUID] = (),
) -> tuple[Row, str]:
    """The key as it is listed, and the key itself; without `account_ids` for all accounts.

    Raises NoSuchParent, UnknownAccounts.
    """
    key = new_api_key()
    made = await KeyRepository(database).create(
        workspace_id, key, name=name, scopes=scopes, account_ids=account_ids or None
    )
    return made, key.plain


async def create_workspace(
    access: AccessRepository, name: str, *, accounts: int = 0, boards: int = 0
) -> NewWorkspace:
    """A workspace with a key of all scopes, and `accounts` accounts with `boards` boards each:
    board-1, board-2 and so on.
    """
    workspace_id = await access.create_workspace(name)
    key = new_api_key()
    await access.create_key(workspace_id, key, name=FIRST_KEY, scopes=list(Scope))
    made = []
    for number in range(1, accounts + 1):
        account_id = await access.add_account(workspace_id, name=f"{name} {number}")
        board_ids = [f"board-{board}" for board in range(1, boards + 1)]
        for board_id in board_ids:
            await access.add_board(
                workspace_id, account_id, board_id, name=board_id.replace("-", " ").capitalize()
            )
        made.append(NewAccount(account_id, board_ids))
    return NewWorkspace(workspace_id, key.plain, made)
