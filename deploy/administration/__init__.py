"""Administers workspaces, keys, accounts, boards and pauses in SQL, as the database's owner."""

from deploy.administration.deliveries import PauseRepository, ResumedAccount
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
    "PauseRepository",
    "ResumedAccount",
    "UnknownAccounts",
    "create_key",
    "create_workspace",
]
