"""Jobs that ended, told to whoever listens on `job-events`: at least once, always under the same
id.
"""

from collections.abc import Sequence

from services.status.repository import JobStore
from shared.contract.cloudevents import EventType, headers
from shared.contract.events import ImportCompleted
from shared.contract.wire import encode
from shared.kafka.producer import RecordSender
from shared.kafka.records import Record
from shared.postgres.row import Row

SOURCE = "/pinflow/status"
DELIVERY_SECONDS = 5.0
"""A producer would wait longer for a silent Kafka, but the jobs are locked meanwhile: folds that
meet them would run out of time.
"""


class Announcer:
    def __init__(self, store: JobStore, producer: RecordSender, topic: str, limit: int) -> None:
        self._store = store
        self._producer = producer
        self._topic = topic
        self._limit = limit

    async def sweep(self) -> int:
        """Announce a portion; how many.

        Raises BrokerUnavailable, DatabaseUnavailable: none of them is marked then.
        """
        return await self._store.announce(
            self._limit, self._deliver, patience_seconds=DELIVERY_SECONDS
        )

    async def _deliver(self, jobs: Sequence[Row]) -> None:
        await self._producer.send(
            self._topic, [announcement(job) for job in jobs], seconds=DELIVERY_SECONDS
        )


def announcement(job: Row) -> Record:
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
    about = headers(
        EventType.IMPORT_COMPLETED,
        event_id=f"{event.job_id}:completed",
        source=SOURCE,
        time=event.completed_at,
    )
    return Record(str(event.workspace_id).encode(), encode(event), about)
