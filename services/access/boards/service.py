"""Lists, creates, changes and deletes boards.

All changes are made in Pinflow's database only. This version makes no requests to Pinterest.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from services.access.accounts.service import require_permitted
from services.access.boards.repository import (
    AccountRevoked,
    BoardRepository,
    TooManyBoards,
    UnknownAccount,
)
from shared.access.board_ids import derive_board_id, new_board_id
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.postgres.row import Row


class BoardService:
    """The use cases of boards. Raises ApiError.

    An account that is not on the key's list is handled as if it did not exist.
    """

    def __init__(self, repository: BoardRepository, max_boards: int) -> None:
        self._repository = repository
        self._max_boards = max_boards

    async def list_boards(self, principal: Principal, account_id: UUID) -> list[Row]:
        require_permitted(principal, account_id)
        rows = await self._repository.list_boards(principal.workspace_id, account_id)
        if rows is None:
            raise not_found("Account")
        return rows

    async def create_board(
        self,
        principal: Principal,
        account_id: UUID,
        values: Mapping[str, Any],
        idempotency_key: str | None,
    ) -> tuple[Row, bool]:
        """Creates a board. Returns it, and whether this call created it.

        The same `idempotency_key` on the same account always gives the same board.
        """
        require_permitted(principal, account_id)
        board_id = (
            new_board_id()
            if idempotency_key is None
            else derive_board_id(account_id, idempotency_key)
        )
        try:
            return await self._repository.create_board(
                principal.workspace_id, account_id, board_id, values, limit=self._max_boards
            )
        except UnknownAccount:
            raise not_found("Account") from None
        except AccountRevoked:
            message = (
                "The account is revoked, so no boards can be added to it. Use another account, or "
                "ask the operator to restore this one."
            )
            raise ApiError(ErrorCode.ACCOUNT_REVOKED, message, HTTPStatus.CONFLICT) from None
        except TooManyBoards:
            message = (
                f"The account has reached its limit of {self._max_boards} boards. Delete a board "
                "that is not needed."
            )
            raise ApiError(
                ErrorCode.TOO_MANY_BOARDS, message, HTTPStatus.CONFLICT, limit=self._max_boards
            ) from None

    async def update_board(
        self, principal: Principal, account_id: UUID, board_id: str, changes: Mapping[str, Any]
    ) -> Row:
        if not principal.permits(account_id):
            raise _board_not_found()
        row = await self._repository.update_board(
            principal.workspace_id, account_id, board_id, changes
        )
        if row is None:
            raise _board_not_found()
        return row

    async def delete_board(self, principal: Principal, account_id: UUID, board_id: str) -> None:
        if not (
            principal.permits(account_id)
            and await self._repository.delete_board(principal.workspace_id, account_id, board_id)
        ):
            raise _board_not_found()

    async def find_account_and_board(
        self, principal: Principal, account_id: UUID, board_id: str
    ) -> tuple[Row, Row | None]:
        """Returns the account, and the board or None if the account does not have it."""
        require_permitted(principal, account_id)
        account, board = await self._repository.find_account_and_board(
            principal.workspace_id, account_id, board_id
        )
        if account is None:
            raise not_found("Account")
        return account, board


def _board_not_found() -> ApiError:
    message = "Board not found. GET /v1/pinterest/boards lists the boards of an account."
    return ApiError(ErrorCode.BOARD_NOT_FOUND, message, HTTPStatus.NOT_FOUND)
