"""Deletes records of commands after their retention time."""

from datetime import timedelta
from typing import Protocol

CLEAN_INTERVAL_SECONDS = 3600.0
RETENTION = timedelta(days=45)
"""Time for which cancellations and undos are stored.

Longer than a row can be delivered again: `imports` keeps records for 7 days, and a dead letter can
be replayed for 30 days.
"""
MAX_DELETED_COMMANDS = 500
"""Imports whose records one transaction deletes."""


class CommandRepository(Protocol):
    """Stores records of commands. Implemented by ImportRepository."""

    async def delete_commands(self, retention: timedelta, limit: int) -> int:
        """Deletes the old records of at most `limit` imports of each kind. Returns their number."""


class CommandCleaner:
    """Deletes old records in batches, each in its own transaction. Every replica can run one."""

    def __init__(self, commands: CommandRepository) -> None:
        self._commands = commands

    async def delete_old_commands(self) -> int:
        """Deletes one batch and returns its size. Raises DatabaseUnavailable."""
        return await self._commands.delete_commands(RETENTION, MAX_DELETED_COMMANDS)
