"""Changes workspaces, keys, accounts and boards as an operator does: in SQL, as the owner."""

from deploy.administration.repository import AlreadyExists, NoSuchParent, OperatorRepository
from deploy.administration.workspaces import (
    NewAccount,
    NewWorkspace,
    UnknownAccounts,
    create_key,
    create_workspace,
)

__all__ = [
    "AlreadyExists",
    "NewAccount",
    "NewWorkspace",
    "NoSuchParent",
    "OperatorRepository",
    "UnknownAccounts",
    "create_key",
    "create_workspace",
]
