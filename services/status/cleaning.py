"""Deletes uploads that have been kept for long enough."""

from datetime import timedelta
from typing import Protocol

CLEAN_SECONDS = 60.0
CLEANED_AT_ONCE = 50
"""Uploads of one transaction: 300 MiB at most, of the largest ones."""


class Uploads(Protocol):
    """Where uploads are kept; the real one is JobStore."""

    async def delete_uploads(self, kept: timedelta, most: int) -> int:
        """Deletes at most `most` uploads that have been kept for so long; returns how many."""


class UploadCleaner:
    """Deletes in portions, each a transaction of its own. Every replica may: none undoes another's work."""

    def __init__(self, uploads: Uploads, kept: timedelta) -> None:
        self._uploads = uploads
        self._kept = kept

    async def sweep(self) -> int:
        """Deletes a portion and returns how many uploads it had. Raises DatabaseUnavailable."""
        return await self._uploads.delete_uploads(self._kept, CLEANED_AT_ONCE)
