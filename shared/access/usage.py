"""When each key was last used, to the minute: noted on the way of a request, written in the
background.
"""

import time
from collections.abc import Collection
from typing import Protocol
from uuid import UUID

import structlog

from shared.access.cache import Clock, Remembered
from shared.contract.errors import DatabaseUnavailable
from shared.runtime.periodic import Sweeper

log = structlog.get_logger()

EVERY_SECONDS = 60.0
"""How often one key's use is written by one process."""
GATHERING_SECONDS = 5.0
"""For how long uses are gathered into one statement. A process that is killed forgets so much."""


class UsedKeys(Protocol):
    async def mark_used(self, key_ids: Collection[UUID]) -> None: ...


class KeyUsage:
    """A request pays one look into a set.

    What can't be written is logged and let go: a use of the key a minute later is noted again.
    """

    def __init__(self, keys: UsedKeys, clock: Clock = time.monotonic) -> None:
        self._keys = keys
        self._noted: Remembered[UUID] = Remembered(seconds=EVERY_SECONDS, clock=clock)
        self._unwritten: set[UUID] = set()

    def note(self, key_id: UUID) -> None:
        if key_id not in self._noted:
            self._noted.add(key_id)
            self._unwritten.add(key_id)

    def sweeper(self) -> Sweeper:
        return Sweeper("key usage", self.write, interval_seconds=GATHERING_SECONDS)

    async def write(self) -> int:
        """A sweep that never fails, nor finds so much that it should go on at once."""
        used, self._unwritten = self._unwritten, set()
        if used:
            try:
                await self._keys.mark_used(used)
            except DatabaseUnavailable as error:
                log.warning("key_usage_lost", keys=len(used), error=str(error))
            except Exception:
                log.exception("key_usage_lost", keys=len(used))
        return 0
