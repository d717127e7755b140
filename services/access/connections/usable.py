"""Opens connections that can be used, refreshes their tokens, and notes what Pinterest refused."""

from uuid import UUID

import structlog
from pydantic import SecretStr

from services.access.config import AccessSettings
from services.access.connections.link import PinterestLink
from services.access.connections.model import Connection, NotConnected, PinterestOff
from services.access.connections.repository import ConnectionRepository
from services.access.connections.rules import (
    REVOKED_MESSAGE,
    SCOPE_MESSAGE,
    FailedRefresh,
    give_up,
)
from services.access.connections.stored import OpenedConnection
from shared.access.connection_health import GIVEN_UP, HealthCode
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused

log = structlog.get_logger()


class UsableConnections:
    """Opens usable connections, refreshes their tokens and notes refusals.

    Calls and the token handout share it.
    """

    def __init__(
        self,
        repository: ConnectionRepository,
        settings: AccessSettings,
        link: PinterestLink | None,
    ) -> None:
        """Takes the link to Pinterest, or None if the mode is off."""
        self._repository = repository
        self._mode = settings.pinterest_mode
        self._scopes = frozenset(settings.asked_scopes)
        self._link = link

    def require_link(self) -> PinterestLink:
        """Raises PinterestOff."""
        if self._link is None:
            raise PinterestOff("PINFLOW_PINTEREST_MODE is off.")
        return self._link

    async def refresh(
        self, account_id: UUID, seen_version: int, *, is_refused: bool = False
    ) -> int:
        """Refreshes the tokens if their version is still `seen_version`. Returns the new version.

        `is_refused`: Pinterest refused the access token of that version, so it does not work even
        if it has not expired. Raises a PinterestFailure, NotConnected, PinterestOff or
        TokenKeyMissing.
        """
        try:
            return await self.require_link().refresher.refresh(account_id, seen_version)
        except Refused:
            if is_refused:
                await self._give_up(account_id, seen_version)
            raise

    async def note_refused_token(self, connection: Connection) -> bool:
        """Notes that a new token was refused. Returns whether the connection was given up."""
        account_id, version = connection.account_id, connection.token_version
        failed = await self._repository.note_refused_token(account_id, version)
        if failed is None:
            return False
        log.warning(
            "new_token_refused",
            account_id=str(account_id),
            workspace_id=str(connection.workspace_id),
            health_code=failed.health_code,
            retry_seconds=failed.retry_seconds,
        )
        if failed.health_code not in GIVEN_UP:
            return False
        _log_given_up(connection, failed)
        return True

    async def open(self, account_id: UUID, operation: str) -> OpenedConnection:
        """Reads a connection that can be used. Raises NotConnected, or Refused if given up."""
        opened = await self._repository.open(account_id)
        if opened is None or opened.secret is None or not opened.connection.is_connected:
            raise NotConnected(account_id)
        connection = opened.connection
        if connection.mode != self._mode:
            raise NotConnected(
                account_id,
                f"The account was connected in the mode {connection.mode}, but this installation "
                f"is in the mode {self._mode}.",
            )
        if connection.health_code in GIVEN_UP:
            message = connection.health_message or REVOKED_MESSAGE
            raise Refused(operation, message, status=401, code=None, cause=Cause.TOKEN)
        return opened

    async def find(self, account_id: UUID) -> Connection:
        """Returns a connection of any mode. Raises NotConnected."""
        connection = await self._repository.find(account_id)
        if connection is None or not connection.is_connected:
            raise NotConnected(account_id)
        return connection

    def read_token(self, opened: OpenedConnection) -> SecretStr:
        if opened.secret is None:  # disconnected: `open` has refused it
            raise NotConnected(opened.connection.account_id)
        vault = self.require_link().vault
        return vault.open(opened.connection.account_id, opened.secret).access_token

    async def refresh_opened(
        self, opened: OpenedConnection, operation: str, *, is_refused: bool = False
    ) -> OpenedConnection:
        """Refreshes the tokens. Raises NotSent if that fails: the request itself did nothing."""
        connection = opened.connection
        try:
            await self.refresh(
                connection.account_id, connection.token_version, is_refused=is_refused
            )
        except (NotSent, AnswerLost) as failure:
            raise NotSent(operation, f"The token was not refreshed. {failure.message}") from failure
        return await self.open(connection.account_id, operation)

    async def _give_up(self, account_id: UUID, version: int) -> None:
        """Notes that Pinterest refuses the account's tokens. A later refresh may change that."""
        opened = await self._repository.open(account_id)
        if opened is not None:
            failed = give_up(opened.now, opened.connection.refresh_expires_at)
            if await self._repository.give_up(account_id, version, failed):
                _log_given_up(opened.connection, failed)

    async def note_missing_scope(self, connection: Connection, token_version: int) -> bool:
        """Notes a missing right at the connection, if its user did not allow everything.

        Returns False otherwise: the app lacks the right, and connecting the account again would not
        help. Also if other tokens were stored meanwhile.
        """
        if not self._scopes - set(connection.scopes):
            return False
        return await self._repository.set_health(
            connection.account_id, token_version, HealthCode.SCOPE_MISSING, SCOPE_MESSAGE
        )


def refuse_for_now(operation: str) -> NotSent:
    """Builds the failure of a request that did nothing, and may succeed with later tokens."""
    return NotSent(operation, "Pinterest refused an access token that it had just issued.")


def _log_given_up(connection: Connection, failed: FailedRefresh) -> None:
    log.warning(
        "connection_given_up",
        account_id=str(connection.account_id),
        workspace_id=str(connection.workspace_id),
        health_code=failed.health_code,
    )
