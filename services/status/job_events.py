"""Announces jobs that ended on `job-events`: at least once, always under the same event id."""

from services.status.repository import JobRepository
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.events import ImportCompleted
from shared.contract.wire import encode
from shared.kafka.producer import RecordSender
from shared.kafka.records import Record
from shared.postgres.row import Row

SOURCE = "/pinflow/status"
DELIVERY_SECONDS = 5.0
"""How long Kafka may take. The jobs are locked meanwhile, and folds that meet them wait."""


class JobAnnouncer:
    """Announces jobs in portions. Replicas share the work: each takes jobs that no other has."""

    def __init__(
        self, store: JobRepository, producer: RecordSender, topic: str, limit: int
    ) -> None:
        self._store = store
        self._producer = producer
        self._topic = topic
        self._limit = limit

    async def announce(self) -> int:
        """Announces a portion and returns how many jobs it had.

        Raises BrokerUnavailable or DatabaseUnavailable; none of them is marked then.
        """
        claim_unannounced = self._store.claim_unannounced(
            self._limit, extra_timeout_seconds=DELIVERY_SECONDS
        )
        async with claim_unannounced as jobs:
            records = [announcement(job) for job in jobs]
            if records:
                await self._producer.send(self._topic, records, seconds=DELIVERY_SECONDS)
        return len(records)


def announcement(job: Row) -> Record:
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
    about = build_headers(
        EventType.IMPORT_COMPLETED,
        event_id=f"{event.job_id}:completed",
        source=SOURCE,
        time=event.completed_at,
    )
    return Record(str(event.workspace_id).encode(), encode(event), about)
