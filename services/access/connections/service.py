"""Calls Pinterest for a connected account, and connects, refreshes and disconnects accounts."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from services.access.connections.model import Connection, NewConnection


class ConnectionService:
    """The use cases of connections.

    `call` and `list_all` raise a PinterestFailure, NotConnected, PinterestOff or TokenKeyMissing.
    A connection that Pinterest refused before raises Refused with Cause.TOKEN, without a request.
    """

    async def find(self, account_id: UUID) -> Connection | None:
        """Returns an account's connection. None: the account was never connected."""
        raise NotImplementedError

    async def call(
        self,
        account_id: UUID,
        operation: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Any:
        """Sends one request with the account's access token. Returns the answer's JSON.

        A token that Pinterest refuses is refreshed once, then the request is sent once more: the
        first one surely did nothing. If the refresh fails, raises NotSent.
        """
        raise NotImplementedError

    async def list_all(
        self,
        account_id: UUID,
        operation: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Reads all pages of a list with the account's access token."""
        raise NotImplementedError

    async def connect(self, new: NewConnection) -> UUID:
        """Stores a grant. Returns the id of the connected account, which is not revoked any more.

        Raises AccountMismatch, and PinterestOff.
        """
        raise NotImplementedError

    async def disconnect(self, workspace_id: UUID, account_id: UUID) -> bool:
        """Revokes an account and deletes its tokens. Idempotent. Returns False if it is unknown."""
        raise NotImplementedError

    async def refresh(
        self, account_id: UUID, seen_version: int, *, is_refused: bool = False
    ) -> int:
        """Refreshes the tokens if their version is still `seen_version`. Returns the new version.

        `is_refused`: Pinterest refused the access token of that version, so it does not work even
        if it has not expired. Raises a PinterestFailure, NotConnected, PinterestOff or
        TokenKeyMissing.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Waits for refreshes that are in flight, then closes the connections to Pinterest."""
        raise NotImplementedError
