"""Defines the value types of access: principals, destinations, and what a check says."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple
from uuid import UUID


class Principal(NamedTuple):
    """Identifies who is asking: a workspace's API key, its scopes and its allow-list."""

    workspace_id: UUID
    key_id: UUID
    scopes: frozenset[str]
    account_ids: frozenset[UUID] | None = None
    """The key's allow-list: the accounts it may read and publish to; None for all of the
    workspace's.
    """

    @classmethod
    def from_key(cls, row: Mapping[str, Any]) -> "Principal":
        """Makes the principal of a key's row. The caller has checked that it is not revoked."""
        account_ids = None if row["account_ids"] is None else frozenset(row["account_ids"])
        return cls(row["workspace_id"], row["id"], frozenset(row["scopes"]), account_ids)

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
