"""Defines the value types of access: principals, destinations and results of board checks."""

from collections.abc import Collection, Mapping
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID


class Principal(NamedTuple):
    """The authenticated caller: an API key of a workspace, its scopes and its allow-list."""

    workspace_id: UUID
    key_id: UUID
    scopes: frozenset[str]
    account_ids: frozenset[UUID] | None = None
    """The key's allow-list: the accounts that it may read and publish to.

    None allows all accounts of the workspace.
    """

    @classmethod
    def from_key(cls, row: Mapping[str, Any]) -> "Principal":
        """Builds the principal from a key's row. The caller has checked that it is not revoked."""
        account_ids = None if row["account_ids"] is None else frozenset(row["account_ids"])
        return cls(row["workspace_id"], row["id"], frozenset(row["scopes"]), account_ids)

    def permits(self, account_id: UUID) -> bool:
        return self.account_ids is None or account_id in self.account_ids


class Account(NamedTuple):
    """An account that can be published to, and its names."""

    id: UUID
    display_name: str
    username: str


class Board(NamedTuple):
    account_id: UUID
    board_id: str
    name: str


class Destination(NamedTuple):
    """The account and board that a pin is published to."""

    workspace_id: UUID
    account_id: UUID
    board_id: str


class BoardCheck(Enum):
    KNOWN = auto()
    NO_ACCOUNT = auto()
    """The account is unknown, revoked, or in another workspace.

    The error of a row or pin is the same in all three cases.
    """
    NO_BOARD = auto()


class BoardName(NamedTuple):
    """The result of a check if no board has the id, but boards of the account have it as a name."""

    board_ids: tuple[str, ...]


class SimilarBoard(NamedTuple):
    """The result of a check if no board has the id, but it nearly is the name of this board."""

    name: str
    board_id: str


BoardResult: TypeAlias = BoardCheck | BoardName | SimilarBoard


class DestinationCheck(NamedTuple):
    """The result of a destination's check."""

    board: BoardResult
    is_connected: bool
    """True if the account was ever connected to Pinterest, also if its check failed."""


class DestinationChecks(NamedTuple):
    """The destinations of a batch that need attention. Both are empty for most batches."""

    failing: Mapping[Destination, BoardResult]
    """The destinations that pins can't be published to, and why."""
    connected: Collection[Destination]
    """The destinations of accounts that were ever connected to Pinterest."""
