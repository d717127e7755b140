"""Lists and revokes accounts; lists, makes, changes and deletes boards.

They are changed in the store only: this version makes no call to Pinterest.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

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
    """Treats an account that is not on the key's list as if it did not exist.

    Raises ApiError.
    """

    def __init__(self, repository: BoardRepository, max_boards: int) -> None:
        self._repository = repository
        self._max_boards = max_boards

    async def list_accounts(self, principal: Principal) -> list[Row]:
        rows = await self._repository.list_accounts(principal.workspace_id)
        return [row for row in rows if principal.permits(row["id"])]

    async def list_boards(self, principal: Principal, account_id: UUID) -> list[Row]:
        _require_permitted(principal, account_id)
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
        """Returns the board, and whether this call made it.

        The same `idempotency_key` on the same account names the same board.
        """
        _require_permitted(principal, account_id)
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
            message = "This account is revoked: it takes no boards and no pins."
            raise ApiError(ErrorCode.ACCOUNT_REVOKED, message, HTTPStatus.CONFLICT) from None
        except TooManyBoards:
            message = f"This account has {self._max_boards} boards, as many as it may have."
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

    async def find(
        self, principal: Principal, account_id: UUID, board_id: str
    ) -> tuple[Row, Row | None]:
        """Returns the account, and the board if the account has it."""
        _require_permitted(principal, account_id)
        account, board = await self._repository.find(principal.workspace_id, account_id, board_id)
        if account is None:
            raise not_found("Account")
        return account, board

    async def revoke_account(self, principal: Principal, account_id: UUID) -> None:
        _require_permitted(principal, account_id)
        if not await self._repository.revoke_account(principal.workspace_id, account_id):
            raise not_found("Account")


def _require_permitted(principal: Principal, account_id: UUID) -> None:
    if not principal.permits(account_id):
        raise not_found("Account")


def _board_not_found() -> ApiError:
    return ApiError(ErrorCode.BOARD_NOT_FOUND, "Board not found", HTTPStatus.NOT_FOUND)
