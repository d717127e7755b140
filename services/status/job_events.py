"""Announces completed jobs on `job-events`: at least once, always with the same event id."""

from services.status.repository import JobRepository
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.events import ImportCompleted
from shared.contract.wire import encode
from shared.kafka.producer import RecordSender
from shared.kafka.records import Record
from shared.postgres.row import Row

SOURCE = "/pinflow/status"
ANNOUNCE_TIMEOUT_SECONDS = 5.0
"""Maximum time that Kafka may take. Meanwhile the jobs are locked, and folds of these jobs wait."""


class JobAnnouncer:
    """Announces jobs in batches. Replicas share the work: each locks different jobs."""

    def __init__(
        self, store: JobRepository, producer: RecordSender, topic: str, limit: int
    ) -> None:
        self._store = store
        self._producer = producer
        self._topic = topic
        self._limit = limit

    async def announce(self) -> int:
        """Announces one batch and returns its size.

        Raises BrokerUnavailable or DatabaseUnavailable. Then no job is marked as announced.
        """
        unannounced = self._store.lock_unannounced(
            self._limit, extra_timeout_seconds=ANNOUNCE_TIMEOUT_SECONDS
        )
        async with unannounced as jobs:
            records = [build_announcement(job) for job in jobs]
            if records:
                await self._producer.send(self._topic, records, seconds=ANNOUNCE_TIMEOUT_SECONDS)
        return len(records)


def build_announcement(job: Row) -> Record:
    """Builds the record of an ImportCompleted."""
    counters = {name: job[name] for name in ("created_rows", "existing_rows", "failed_rows")}
    names = (
        "request_id",
        "job_id",
        "workspace_id",
        "status",
        "total_rows",
        "error_message",
        "completed_at",
    )
    event = ImportCompleted(
        **{name: job[name] for name in names}, **counters, processed_rows=sum(counters.values())
    )
    event_headers = build_headers(
        EventType.IMPORT_COMPLETED,
        event_id=f"{event.job_id}:completed",
        source=SOURCE,
        time=event.completed_at,
    )
    return Record(str(event.workspace_id).encode(), encode(event), event_headers)
