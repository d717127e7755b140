"""Accounts and boards as clients manage them: in the store only, as no call to Pinterest is made in
this version.
"""

import secrets
from collections.abc import Mapping
from hashlib import blake2b
from http import HTTPStatus
from typing import Any
from uuid import UUID

from services.access.boards.repository import (
    AccountRevoked,
    DestinationRepository,
    TooManyBoards,
)
from shared.access.model import NoSuchParent, Principal
from shared.contract.errors import ErrorCode, RequestRefused, not_found
from shared.postgres.row import Row

FIRST_BOARD_ID = 10**17
"""Board ids have 18 digits, as Pinterest's have."""
BOARD_IDS = 9 * 10**17


class Destinations:
    """What a key's list of accounts does not have is as if it did not exist.

    Raises RequestRefused.
    """

    def __init__(self, repository: DestinationRepository, most_boards: int) -> None:
        self._repository = repository
        self._most_boards = most_boards

    async def create_board(
        self, who: Principal, account_id: UUID, values: Mapping[str, Any], key: str | None
    ) -> tuple[Row, bool]:
        """The board, and whether this call made it: the same `key` on the same account names the
        same board.
        """
        _require(who, account_id)
        board_id = board_id_of(account_id, key)
        try:
            return await self._repository.create_board(
                who.workspace_id, account_id, board_id, values, most=self._most_boards
            )
        except NoSuchParent:
            raise not_found("Account") from None
        except AccountRevoked:
            message = "This account is revoked: it takes no boards and no pins."
            raise RequestRefused(ErrorCode.ACCOUNT_REVOKED, message, HTTPStatus.CONFLICT) from None
        except TooManyBoards:
            message = f"This account has {self._most_boards} boards, as many as it may have."
            raise RequestRefused(
                ErrorCode.TOO_MANY_BOARDS, message, HTTPStatus.CONFLICT, limit=self._most_boards
            ) from None

    async def update_board(
        self, who: Principal, account_id: UUID, board_id: str, changes: Mapping[str, Any]
    ) -> Row:
        permitted = who.permits(account_id)
        row = (
            await self._repository.update_board(who.workspace_id, account_id, board_id, changes)
            if permitted
            else None
        )
        if row is None:
            raise _no_board()
        return row

    async def delete_board(self, who: Principal, account_id: UUID, board_id: str) -> None:
        if not (
            who.permits(account_id)
            and await self._repository.delete_board(who.workspace_id, account_id, board_id)
        ):
            raise _no_board()

    async def find(self, who: Principal, account_id: UUID, board_id: str) -> tuple[Row, Row | None]:
        """The account, and the board if it has it."""
        _require(who, account_id)
        account, board = await self._repository.find(who.workspace_id, account_id, board_id)
        if account is None:
            raise not_found("Account")
        return account, board

    async def revoke_account(self, who: Principal, account_id: UUID) -> None:
        _require(who, account_id)
        if not await self._repository.revoke_account(who.workspace_id, account_id):
            raise not_found("Account")


def board_id_of(account_id: UUID, key: str | None) -> str:
    """By the key, if there is one; else any."""
    if key is None:
        number = secrets.randbelow(BOARD_IDS)
    else:
        number = (
            int.from_bytes(blake2b(account_id.bytes + key.encode(), digest_size=16).digest())
            % BOARD_IDS
        )
    return str(FIRST_BOARD_ID + number)


def _require(who: Principal, account_id: UUID) -> None:
    if not who.permits(account_id):
        raise not_found("Account")


def _no_board() -> RequestRefused:
    return RequestRefused(ErrorCode.BOARD_NOT_FOUND, "Board not found", HTTPStatus.NOT_FOUND)
