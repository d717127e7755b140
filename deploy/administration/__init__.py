"""Administers workspaces, keys, accounts, boards and pauses in SQL, as the database's owner."""

from deploy.administration.deliveries import DeliveryRepository, ResumedAccount
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
    "DeliveryRepository",
    "NewAccount",
    "NewWorkspace",
    "NoSuchParent",
    "OperatorRepository",
    "ResumedAccount",
    "UnknownAccounts",
    "create_key",
    "create_workspace",
]
