"""Announcing waits for Kafka no longer than the locks of the jobs may be held."""

from collections.abc import Awaitable, Callable, Sequence

from services.status import job_events as announcements
from services.status.job_events import Announcer
from services.status.repository import JobStore
from shared.kafka.records import Record
from shared.postgres.row import Row


class Sender:
    """Remembers how much time it is given."""

    seconds = 0.0

    async def send(self, _topic: str, _records: Sequence[Record], *, seconds: float = 0) -> None:
        self.seconds = seconds


class Store(JobStore):
    """Has one portion of no jobs to announce; remembers how much time there is for it."""

    patience_seconds = 0.0

    def __init__(self) -> None:
        """Needs no database."""

    async def announce(
        self,
        limit: int,
        deliver: Callable[[Sequence[Row]], Awaitable[None]],
        *,
        patience_seconds: float = 0,
    ) -> int:
        self.patience_seconds = patience_seconds
        await deliver([])
        return limit


async def test_kafka_has_no_more_time_than_the_locks_of_the_jobs_may_be_held() -> None:
    store, sender = Store(), Sender()
    assert await Announcer(store, sender, "job-events", 1).sweep() == 1
    assert sender.seconds == store.patience_seconds == announcements.DELIVERY_SECONDS
