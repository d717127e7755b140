"""The announcer waits for Kafka no longer than the jobs may be locked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

from services.status import job_events as announcements
from services.status.job_events import JobAnnouncer
from services.status.repository import JobRepository
from shared.kafka.records import Record
from shared.postgres.row import Row

ENDED: Row = {
    "request_id": None,
    "job_id": uuid4(),
    "workspace_id": uuid4(),
    "status": "completed",
    "total_rows": 1,
    "created_rows": 1,
    "existing_rows": 0,
    "failed_rows": 0,
    "error_message": None,
    "completed_at": datetime(2026, 11, 29, tzinfo=UTC),
}


class Sender:
    """Records the timeout of its last call."""

    seconds = 0.0

    async def send(self, _topic: str, _records: Sequence[Record], *, seconds: float = 0) -> None:
        self.seconds = seconds


class Store(JobRepository):
    """Has one job to announce. Records the extra time of the transaction."""

    extra_timeout_seconds = 0.0

    def __init__(self) -> None:
        """Creates the store without a database."""

    @asynccontextmanager
    async def lock_unannounced(
        self, _limit: int, *, extra_timeout_seconds: float = 0
    ) -> AsyncIterator[Sequence[Row]]:
        self.extra_timeout_seconds = extra_timeout_seconds
        yield [ENDED]


async def test_the_send_timeout_equals_the_extra_time_of_the_transaction() -> None:
    store, sender = Store(), Sender()
    assert await JobAnnouncer(store, sender, "job-events", 1).announce() == 1
    assert sender.seconds == store.extra_timeout_seconds == announcements.ANNOUNCE_TIMEOUT_SECONDS
