"""Creates workspaces and keys for the command line and the local stack."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from deploy.administration.repository import OperatorRepository
from shared.access.board_ids import new_board_id
from shared.access.keys import Scope, new_api_key
from shared.contract.errors import PinflowError
from shared.postgres.row import Row

FIRST_KEY = "first key"


class UnknownAccounts(PinflowError):
    """The workspace does not have some of the accounts that were named for a new key."""


class NewAccount(NamedTuple):
    id: UUID
    boards: list[str]
    """Board ids, sorted: lists of boards have the same order."""


class NewWorkspace(NamedTuple):
    id: UUID
    api_key: str
    accounts: list[NewAccount]


async def create_key(
    operator: OperatorRepository,
    workspace_id: UUID,
    *,
    name: str,
    scopes: Collection[Scope],
    account_ids: Collection[UUID] = (),
) -> tuple[Row, str]:
    """Creates a key. Returns KEY_COLUMNS of its row, and the key in plain text.

    Without `account_ids` the key is for all accounts. Raises NoSuchParent and UnknownAccounts.
    """
    # Accounts are never deleted: an account that exists now also exists when the key is written
    existing = await operator.find_accounts(workspace_id, account_ids)
    if unknown := [str(account) for account in account_ids if account not in existing]:
        raise UnknownAccounts(
            f"The workspace has no account {', '.join(unknown)}. See its accounts: pinflow "
            "accounts list"
        )
    key = new_api_key()
    row = await operator.create_key(
        workspace_id, key, name=name, scopes=scopes, account_ids=account_ids or None
    )
    return row, key.plain


async def create_workspace(
    operator: OperatorRepository, name: str, *, accounts: int = 0, boards: int = 0
) -> NewWorkspace:
    """Creates a workspace, a key with all scopes, and accounts.

    `boards` is the number of boards of each account.
    """
    workspace_id = await operator.create_workspace(name)
    key = new_api_key()
    await operator.create_key(workspace_id, key, name=FIRST_KEY, scopes=list(Scope))
    new_accounts = []
    for number in range(1, accounts + 1):
        account_id = await operator.add_account(workspace_id, name=f"{name} {number}")
        board_ids = sorted(new_board_id() for _ in range(boards))
        for position, board_id in enumerate(board_ids, 1):
            await operator.add_board(workspace_id, account_id, board_id, name=f"Board {position}")
        new_accounts.append(NewAccount(account_id, board_ids))
    return NewWorkspace(workspace_id, key.plain, new_accounts)
