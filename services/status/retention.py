"""Deletes uploads after their retention time."""

from datetime import timedelta
from typing import Protocol

CLEAN_INTERVAL_SECONDS = 60.0
MAX_DELETED_UPLOADS = 50
"""Uploads that one transaction deletes. They have at most 300 MiB."""


class UploadRepository(Protocol):
    """Stores uploads. Implemented by JobRepository."""

    async def delete_uploads(self, retention: timedelta, limit: int) -> int:
        """Deletes at most `limit` uploads older than `retention`. Returns their number."""


class UploadCleaner:
    """Deletes uploads in batches, each in its own transaction. Every replica can run one."""

    def __init__(self, uploads: UploadRepository, retention: timedelta) -> None:
        self._uploads = uploads
        self._retention = retention

    async def delete_old_uploads(self) -> int:
        """Deletes one batch and returns its size. Raises DatabaseUnavailable."""
        return await self._uploads.delete_uploads(self._retention, MAX_DELETED_UPLOADS)
