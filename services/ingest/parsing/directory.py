"""Finds the account and board that a row names, by id or by name."""

from collections.abc import Collection, Iterable
from typing import NamedTuple, TypeVar
from uuid import UUID

from shared.access.model import Account, Board, BoardCheck

T = TypeVar("T")


class Ambiguous(NamedTuple):
    """A name that several accounts or boards have."""

    ids: tuple[str, ...]


class Names(NamedTuple):
    """The ids and names of accounts and boards that an import's rows have, to be looked up."""

    accounts: Collection[str]
    boards: Collection[str]


class Directory:
    """The accounts and boards of a workspace that some rows of an import name.

    An exact name comes before a name that differs in case. Names of accounts are their display
    names and user names. Revoked accounts and those that the API key may not use are left out.
    """

    def __init__(self, accounts: Iterable[Account], boards: Iterable[Board]) -> None:
        self._accounts = {account.id: account for account in accounts}
        self._boards = [board for board in boards if board.account_id in self._accounts]

    def find_account(self, text: str) -> UUID | Ambiguous | None:
        """Finds an account by its name. Returns None if no account has it."""
        named = [
            (account.id, name)
            for account in self._accounts.values()
            for name in {account.display_name, account.username, f"@{account.username}"}
        ]
        found = _match(text, named)
        if len(found) > 1:
            return Ambiguous(tuple(map(str, found)))
        return found[0] if found else None

    def find_board(self, account_id: UUID, text: str) -> str | Ambiguous | None:
        """Finds a board of an account by its id or name. Returns None if no board has it."""
        boards = [board for board in self._boards if board.account_id == account_id]
        if any(board.board_id == text for board in boards):
            return text
        found = _match(text, [(board.board_id, board.name) for board in boards])
        if len(found) > 1:
            return Ambiguous(tuple(found))
        return found[0] if found else None

    def check(self, account_id: UUID, board_id: str) -> BoardCheck:
        """Checks an account and one of its boards, as the publisher would."""
        if account_id not in self._accounts:
            return BoardCheck.NO_ACCOUNT
        found = self.find_board(account_id, board_id)
        return BoardCheck.NO_BOARD if found is None else BoardCheck.KNOWN


def _match(text: str, named: Collection[tuple[T, str]]) -> list[T]:
    """Returns the distinct values with this name. If there are none, ignores its case."""
    exact = {value for value, name in named if name == text}
    folded = text.casefold()
    return list(exact or {value for value, name in named if name.casefold() == folded})
