"""Deletes uploads that have been kept for long enough."""

from datetime import timedelta
from typing import Protocol

CLEAN_SECONDS = 60.0
MAX_DELETED_UPLOADS = 50
"""Uploads that one transaction deletes: at most 300 MiB."""


class Uploads(Protocol):
    """Keeps uploads; the real one is JobRepository."""

    async def delete_uploads(self, retention: timedelta, limit: int) -> int:
        """Deletes at most `limit` uploads that are older than `retention`; returns how many."""


class UploadCleaner:
    """Deletes uploads in portions, each in its own transaction. Every replica may have one."""

    def __init__(self, uploads: Uploads, retention: timedelta) -> None:
        self._uploads = uploads
        self._retention = retention

    async def delete_old_uploads(self) -> int:
        """Deletes a portion and returns how many uploads it had. Raises DatabaseUnavailable."""
        return await self._uploads.delete_uploads(self._retention, MAX_DELETED_UPLOADS)
