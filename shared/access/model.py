"""Defines the value types of access: principals, destinations, and what a check says."""

from enum import Enum, auto
from typing import NamedTuple
from uuid import UUID

from shared.contract.errors import PinflowError


class Principal(NamedTuple):
    """Identifies who is asking: a workspace's API key, its scopes and its allow-list."""

    workspace_id: UUID
    key_id: UUID
    scopes: frozenset[str]
    account_ids: frozenset[UUID] | None = None
    """The key's allow-list: the accounts it may read and publish to; None for all of the
    workspace's.
    """

    def permits(self, account_id: UUID) -> bool:
        return self.account_ids is None or account_id in self.account_ids


class Destination(NamedTuple):
    """Names the account and board that a row is for."""

    workspace_id: UUID
    account_id: UUID
    board_id: str


class BoardCheck(Enum):
    KNOWN = auto()
    NO_ACCOUNT = auto()
    """The account is unknown, revoked, or another workspace's. Answers never tell which."""
    NO_BOARD = auto()


class NoSuchParent(PinflowError):
    """The workspace or account that something was to be added to does not exist."""


class AlreadyThere(PinflowError):
    """A board of that id already belongs to the account."""
