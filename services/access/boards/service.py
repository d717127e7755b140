"""Lists, creates, changes, deletes and checks boards.

Boards of an account without a connection exist in Pinflow's database only. Those of a connected
account are Pinterest's: changes are made there first.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from services.access.accounts.health import describe_disconnection
from services.access.accounts.repository import AccountRepository
from services.access.accounts.service import require_permitted
from services.access.boards.access_check import AccessFinding, check_store
from services.access.boards.connected import ConnectedBoards
from services.access.boards.errors import board_not_found
from services.access.boards.repository import (
    AccountRevoked,
    BoardRepository,
    TooManyBoards,
    UnknownAccount,
)
from services.access.boards.rules import is_pinterest_board_id
from shared.access.board_ids import derive_board_id, new_board_id
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.postgres.row import Row


class BoardService:
    """The use cases of boards. Raises ApiError.

    An account that is not on the key's list is handled as if it did not exist.
    """

    def __init__(
        self,
        repository: BoardRepository,
        accounts: AccountRepository,
        connected: ConnectedBoards,
        max_boards: int,
    ) -> None:
        self._repository = repository
        self._accounts = accounts
        self._connected = connected
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
        connection: Row | None = None
        try:
            if connection := await self._find_connection(principal, account_id):
                return await self._connected.create(connection, values, idempotency_key)
            board_id = (
                new_board_id()
                if idempotency_key is None
                else derive_board_id(account_id, idempotency_key)
            )
            return await self._repository.create_board(
                principal.workspace_id, account_id, board_id, values, limit=self._max_boards
            )
        except UnknownAccount:
            raise not_found("Account") from None
        except AccountRevoked:
            if connection:
                raise ApiError(
                    ErrorCode.ACCOUNT_REVOKED,
                    describe_disconnection(account_id),
                    HTTPStatus.CONFLICT,
                ) from None
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
            raise board_not_found()
        if connection := await self._find_connection(principal, account_id):
            return await self._connected.update(connection, board_id, changes)
        row = await self._repository.update_board(
            principal.workspace_id, account_id, board_id, changes
        )
        if row is None:
            raise board_not_found()
        return row

    async def delete_board(self, principal: Principal, account_id: UUID, board_id: str) -> None:
        if not principal.permits(account_id):
            raise board_not_found()
        if connection := await self._find_connection(principal, account_id):
            await self._connected.delete(connection, board_id)
        elif not await self._repository.delete_board(principal.workspace_id, account_id, board_id):
            raise board_not_found()

    async def check_access(
        self, principal: Principal, account_id: UUID, board_id: str
    ) -> tuple[Row, Row | None, AccessFinding]:
        """Checks whether pins can be published to a board.

        Returns the account, the board or None if the account does not have it, and the finding.
        """
        account, board = await self._find(principal, account_id, board_id)
        connection = account["connection"]
        if (
            connection is None
            or account["revoked_at"] is not None
            or not is_pinterest_board_id(board_id)
        ):
            return account, board, check_store(board_id, account, board)
        finding = await self._connected.check(connection, board_id, board)
        # The check may have changed the board, and the account's health
        account, board = await self._find(principal, account_id, board_id)
        return account, board, finding

    async def _find(
        self, principal: Principal, account_id: UUID, board_id: str
    ) -> tuple[Row, Row | None]:
        require_permitted(principal, account_id)
        account, board = await self._repository.find_account_and_board(
            principal.workspace_id, account_id, board_id
        )
        if account is None:
            raise not_found("Account")
        return account, board

    async def _find_connection(self, principal: Principal, account_id: UUID) -> Row | None:
        """Returns the account's connection. None: the account is unknown or never connected."""
        account = await self._accounts.find(principal.workspace_id, account_id)
        return None if account is None else account["connection"]
