"""TTL caches of existing workspaces and boards. Misses are never cached."""

import time
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar
from uuid import UUID

from shared.access.model import BoardCheck, Destination
from shared.access.repository import AccessRepository
from shared.runtime.clock import Clock

CACHE_SECONDS = 30.0
MAX_CACHED = 50_000

K = TypeVar("K", bound=Hashable)


class TTLSet(Generic[K]):
    """A bounded set whose members expire.

    When it is full, all members are removed. That is simple, and rare.
    """

    def __init__(
        self,
        seconds: float = CACHE_SECONDS,
        max_size: int = MAX_CACHED,
        clock: Clock = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._max_size = max_size
        self._clock = clock
        self._expires_at: dict[K, float] = {}

    def __contains__(self, key: K) -> bool:
        return self._expires_at.get(key, 0.0) > self._clock()

    def add(self, key: K) -> None:
        if len(self._expires_at) >= self._max_size:
            self._expires_at.clear()
        self._expires_at[key] = self._clock() + self._seconds


class BoardCache:
    """Caches existing accounts and boards for the publisher.

    The hot path does one set lookup for each distinct destination.
    """

    def __init__(self, repository: AccessRepository) -> None:
        self._repository = repository
        self._known: TTLSet[Destination] = TTLSet()

    async def find_failing(
        self, destinations: Collection[Destination]
    ) -> dict[Destination, BoardCheck]:
        """Returns the destinations that pins can't be published to, and why.

        Raises DatabaseUnavailable.
        """
        uncached = [item for item in destinations if item not in self._known]
        if not uncached:
            return {}
        checks = await self._repository.check_boards(uncached)
        for destination, check in checks.items():
            if check is BoardCheck.KNOWN:
                self._known.add(destination)
        return {
            destination: check
            for destination, check in checks.items()
            if check is not BoardCheck.KNOWN
        }


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
