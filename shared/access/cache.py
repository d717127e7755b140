"""TTL caches of existing workspaces and boards. Misses are never cached."""

from collections.abc import Collection
from uuid import UUID

from shared.access.model import BoardCheck, BoardResult, Destination, DestinationChecks
from shared.access.repository import AccessRepository
from shared.runtime.ttl_set import TTLSet

NOTHING_FOUND = DestinationChecks({}, frozenset())


class BoardCache:
    """Caches existing accounts and boards for the publisher.

    The hot path does one set lookup for each distinct destination. So an account that is connected
    for the first time may count as unconnected for 30 s (ADR 0047).
    """

    def __init__(self, repository: AccessRepository) -> None:
        self._repository = repository
        self._known: TTLSet[Destination] = TTLSet()
        """The boards of accounts that were never connected."""
        self._connected: TTLSet[Destination] = TTLSet()
        """The boards of accounts that were ever connected."""

    async def check(self, destinations: Collection[Destination]) -> DestinationChecks:
        """Finds the destinations that fail their check, and those of connected accounts.

        Raises DatabaseUnavailable.
        """
        others = [item for item in destinations if item not in self._known]
        if not others:
            return NOTHING_FOUND
        connected = {item for item in others if item in self._connected}
        failing: dict[Destination, BoardResult] = {}
        if len(connected) < len(others):
            uncached = [item for item in others if item not in connected]
            for item, (board, is_connected) in (
                await self._repository.check_destinations(uncached)
            ).items():
                if board is not BoardCheck.KNOWN:
                    failing[item] = board
                else:
                    (self._connected if is_connected else self._known).add(item)
                if is_connected:
                    connected.add(item)
        return DestinationChecks(failing, connected)


class WorkspaceCache:
    """Caches the existing workspaces that records on `import-requests` name."""

    def __init__(self, repository: AccessRepository) -> None:
        self._repository = repository
        self._known: TTLSet[UUID] = TTLSet()

    async def exists(self, workspace_id: UUID) -> bool:
        """Returns whether the workspace exists. Raises DatabaseUnavailable."""
        if workspace_id in self._known:
            return True
        if not await self._repository.workspace_exists(workspace_id):
            return False
        self._known.add(workspace_id)
        return True
