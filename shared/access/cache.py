"""What is known to exist, remembered for a while.

Only what exists: the unknown is asked for anew each time, as it may appear.
"""

import time
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar
from uuid import UUID

from shared.access.model import BoardCheck, Destination
from shared.access.repository import AccessRepository

REMEMBER_SECONDS = 30.0
MOST_REMEMBERED = 50_000

Clock = Callable[[], float]
K = TypeVar("K", bound=Hashable)


class TTLSet(Generic[K]):
    """A bounded set whose members are forgotten after a while.

    Full, it is emptied: simple, and rare.
    """

    def __init__(
        self,
        seconds: float = REMEMBER_SECONDS,
        most: int = MOST_REMEMBERED,
        clock: Clock = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._until: dict[K, float] = {}

    def __contains__(self, key: K) -> bool:
        return self._until.get(key, 0.0) > self._clock()

    def add(self, key: K) -> None:
        if len(self._until) >= self._most:
            self._until.clear()
        self._until[key] = self._clock() + self._seconds


class BoardCache:
    """Accounts and boards, for the publisher's hot path: one look in a set for each distinct
    destination.
    """

    def __init__(self, repository: AccessRepository) -> None:
        self._repository = repository
        self._known: TTLSet[Destination] = TTLSet()

    async def find_failing(
        self, destinations: Collection[Destination]
    ) -> dict[Destination, BoardCheck]:
        """Those that can't be published to, and why. Raises DatabaseUnavailable."""
        unknown = [one for one in destinations if one not in self._known]
        if not unknown:
            return {}
        checks = await self._repository.check_boards(unknown)
        for destination, check in checks.items():
            if check is BoardCheck.KNOWN:
                self._known.add(destination)
        return {
            destination: check
            for destination, check in checks.items()
            if check is not BoardCheck.KNOWN
        }


class WorkspaceCache:
    """Workspaces that requests by topic name."""

    def __init__(self, repository: AccessRepository) -> None:
        self._repository = repository
        self._known: TTLSet[UUID] = TTLSet()

    async def exists(self, workspace_id: UUID) -> bool:
        """Raises DatabaseUnavailable."""
        if workspace_id in self._known:
            return True
        if not await self._repository.workspace_exists(workspace_id):
            return False
        self._known.add(workspace_id)
        return True
