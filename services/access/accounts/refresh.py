"""Refreshes a connected account on request: its token, its user name and its boards."""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from services.access.accounts.repository import AccountRepository
from services.access.accounts.service import AccountService
from services.access.boards.sync import BoardSync
from services.access.connections.errors import answer_failures, build_api_error
from services.access.connections.model import NotConnected
from services.access.connections.service import ConnectionService
from services.access.connections.users import USER_OPERATION, parse_user
from shared.access.model import Principal
from shared.pinterest.failures import Refused
from shared.postgres.row import Row

PAUSE = timedelta(seconds=30)
"""A request earlier than this after the last one of the account does nothing."""


class AccountRefresh:
    """Checks at Pinterest what a connection still can do. Raises ApiError."""

    def __init__(
        self,
        accounts: AccountService,
        repository: AccountRepository,
        connections: ConnectionService,
        boards: BoardSync,
    ) -> None:
        self._accounts = accounts
        self._repository = repository
        self._connections = connections
        self._boards = boards

    async def refresh(self, principal: Principal, account_id: UUID) -> tuple[Row, bool]:
        """Refreshes the account, unless that was done just now.

        Returns it with its connection, and whether it was refreshed by this call.

        A refused refresh is no error while the access token works, and neither are boards that
        can't be read: the account's health says it.
        """
        account = await self._accounts.find(principal, account_id)
        connection = account["connection"]
        if connection is None or connection["disconnected_at"] is not None:
            raise build_api_error(NotConnected(account_id))
        if not await self._repository.claim_refresh(account_id, pause=PAUSE):
            return account, False
        missing = self._accounts.policy.find_missing(connection["scopes"])
        with answer_failures(missing_scopes=missing):
            # The access token may still work. If not, the call says so, and marks the connection
            with suppress(Refused):
                await self._connections.refresh(account_id, connection["token_version"])
            user = parse_user(
                await self._connections.call(account_id, USER_OPERATION, "GET", "/user_account")
            )
            await self._repository.rename(account_id, user.username)
            await self._boards.sync(account_id)
        return await self._accounts.find(principal, account_id), True
