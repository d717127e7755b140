"""Publishes schedules when they are due, or queues them for Pinterest."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from services.publisher.model import Failure, build_failure
from services.publisher.scheduler_repository import DuePinRepository
from shared.access.model import BoardCheck, Destination
from shared.access.repository import AccessRepository
from shared.postgres.row import Row


class Scheduler:
    """Publishes due pins, at most `limit` per call. Those of connected accounts become queued.

    A pin fails if its account or board no longer exists. Its import row stays `created`.
    """

    def __init__(self, due: DuePinRepository, access: AccessRepository, limit: int) -> None:
        self._due = due
        self._access = access
        self._limit = limit

    async def publish_due(self) -> int:
        """Publishes or fails one batch. Returns its size."""
        async with self._due.lock_due(self._limit) as batch:
            if batch.pins:
                await batch.publish(failures=await self._find_failures(batch.pins))
        return len(batch.pins)

    async def _find_failures(self, due: Sequence[Row]) -> Mapping[UUID, Failure]:
        """Builds the failures of pins whose account or board does not exist, by pin id."""
        by_destination: dict[Destination, list[UUID]] = defaultdict(list)
        for pin in due:
            destination = Destination(pin["workspace_id"], pin["account_id"], pin["board_id"])
            by_destination[destination].append(pin["pin_id"])
        checks = await self._access.check_boards(by_destination.keys())
        return {
            pin_id: build_failure(check, destination)
            for destination, check in checks.items()
            if check is not BoardCheck.KNOWN
            for pin_id in by_destination[destination]
        }
