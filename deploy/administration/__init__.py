"""Administers workspaces, keys, accounts and boards in SQL, as the owner of the database."""

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
