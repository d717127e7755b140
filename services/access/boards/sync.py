"""Reads the boards of connected accounts from Pinterest into the store."""

from typing import Any, Protocol
from uuid import UUID

from services.access.config import AccessSettings
from shared.postgres.database import Database


class PinterestCalls(Protocol):
    """Calls Pinterest with an account's tokens. ConnectionService implements it."""

    async def call(
        self,
        account_id: UUID,
        operation: str,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        document: Any = None,
    ) -> Any: ...

    async def list_all(
        self,
        account_id: UUID,
        operation: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]: ...


class BoardSync:
    """Makes the boards in the store equal to those at Pinterest."""

    def __init__(
        self, database: Database, connections: PinterestCalls, settings: AccessSettings
    ) -> None:
        self._database = database
        self._connections = connections
        self._settings = settings

    async def sync(self, account_id: UUID) -> bool:
        """Reads all boards of an account from Pinterest, and stores them in one transaction.

        Returns False if Pinterest failed: the boards stay, and the connection's `boards_message`
        says why. Called after a connection, on a refresh, and regularly. Raises
        DatabaseUnavailable, and TokenKeyMissing.
        """
        raise NotImplementedError
