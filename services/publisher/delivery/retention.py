"""Deletes what delivery needs no longer: old attempts, and videos that nobody waits for."""

from services.publisher.delivery.media.repository import VideoRepository
from shared.postgres.database import Database, driver_connection

DELETE_INTERVAL_SECONDS = 600.0
MAX_DELETED = 1000
"""Maximum rows of each kind that one transaction deletes."""
ATTEMPT_DAYS = 90
"""Days for which a settled attempt is kept, for questions about a pin.

The pin itself keeps its id at Pinterest, so confirming another pin still excludes it. An attempt of
a pin that is not at its end is kept: the numbers of its attempts must not begin again.
"""
VIDEO_DAYS = 1
"""Days for which a video is kept that no pin waits for. A later retry uploads it anew."""

_DELETE_ATTEMPTS = """
    delete from publisher.delivery_attempts where attempt_id in (
        select attempt_id from publisher.delivery_attempts d
        where outcome is not null and settled_at < clock_timestamp() - %s * interval '1 day'
            and not exists (
                select from publisher.pins p
                where p.pin_id = d.pin_id and p.deleted_at is null
                    and p.state in ('scheduled', 'queued', 'publishing', 'confirming')
            )
        order by settled_at limit %s
        for update skip locked
    )
"""


class DeliveryCleaner:
    """Deletes old rows in batches. Every replica can run one. Raises DatabaseUnavailable."""

    def __init__(self, database: Database, videos: VideoRepository) -> None:
        self._database = database
        self._videos = videos

    async def delete_old(self) -> int:
        """Deletes one batch of each kind. Returns the number of deleted rows."""
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            cursor = await driver.execute(_DELETE_ATTEMPTS, (ATTEMPT_DAYS, MAX_DELETED))
            attempts = cursor.rowcount
        return attempts + await self._videos.delete_old(VIDEO_DAYS, MAX_DELETED)
