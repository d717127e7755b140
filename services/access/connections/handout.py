"""Hands out access tokens to the delivery process, which may not read them from the database."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import SecretStr

from services.access.connections.model import GivenUp
from services.access.connections.rules import REVOKED_MESSAGE
from services.access.connections.stored import OpenedConnection
from services.access.connections.usable import UsableConnections, refuse_for_now
from shared.access.connection_health import GIVEN_UP
from shared.pinterest.failures import NotSent, Refused

OPERATION = "tokens"


@dataclass(frozen=True, slots=True)
class HandedToken:
    """The access token of an account that can be used."""

    value: SecretStr
    version: int
    expires_at: datetime
    mode: str


class TokenHandout:
    """The use cases of other processes that call Pinterest for an account.

    Raises GivenUp, NotConnected or PinterestOff if the account can't be used, and NotSent or
    TokenKeyMissing if it can't be used at the moment.
    """

    def __init__(self, connections: UsableConnections) -> None:
        self._connections = connections

    async def get(self, account_id: UUID) -> HandedToken:
        """Returns the account's access token. Refreshes it first if it has expired."""
        self._connections.require_link()
        try:
            return await self._get(account_id)
        except Refused as refusal:
            raise await self._build_failure(account_id) from refusal

    async def replace(
        self, account_id: UUID, refused_version: int, *, is_new: bool = False
    ) -> HandedToken:
        """Returns another access token than the one that Pinterest refused. Idempotent.

        `is_new`: the refused token came from this method just now. Then another refresh at once
        would not help: the refusal is noted, and the account is given up if that goes on for long.
        """
        self._connections.require_link()
        try:
            return await self._replace(account_id, refused_version, is_new=is_new)
        except Refused as refusal:
            raise await self._build_failure(account_id) from refusal

    async def note_missing_scope(self, account_id: UUID, version: int) -> bool:
        """Notes that Pinterest refused a call, because the account's user did not allow it.

        Returns False if the user allowed everything, so that the app lacks the right.
        """
        self._connections.require_link()
        connection = await self._connections.find(account_id)
        return await self._connections.note_missing_scope(connection, version)

    async def _get(self, account_id: UUID) -> HandedToken:
        opened = await self._connections.open(account_id, OPERATION)
        if opened.connection.token_expires_at <= opened.now:
            opened = await self._connections.refresh_opened(opened, OPERATION)
        return self._hand_out(opened)

    async def _replace(
        self, account_id: UUID, refused_version: int, *, is_new: bool
    ) -> HandedToken:
        opened = await self._connections.open(account_id, OPERATION)
        connection = opened.connection
        if connection.token_version != refused_version:
            return await self._get(account_id)
        if opened.is_refusal_recent:
            raise refuse_for_now(OPERATION)
        if is_new:
            await self._connections.note_refused_token(connection)
            await self._connections.open(account_id, OPERATION)  # raises Refused if given up
            raise refuse_for_now(OPERATION)
        refreshed = await self._connections.refresh_opened(opened, OPERATION, is_refused=True)
        return self._hand_out(refreshed)

    def _hand_out(self, opened: OpenedConnection) -> HandedToken:
        connection = opened.connection
        return HandedToken(
            self._connections.read_token(opened),
            connection.token_version,
            connection.token_expires_at,
            connection.mode,
        )

    async def _build_failure(self, account_id: UUID) -> GivenUp | NotSent:
        """Builds the failure of an account whose tokens were refused. NotSent: try again."""
        connection = await self._connections.find(account_id)
        code = connection.health_code
        if code not in GIVEN_UP or code is None:
            # Its user connected it again meanwhile, or another process has refreshed its tokens
            return NotSent(OPERATION, "The account's tokens have changed meanwhile.")
        return GivenUp(code, connection.health_message or REVOKED_MESSAGE)
