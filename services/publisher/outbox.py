"""Sends the events of the outbox to Kafka."""

from services.publisher.outbox_events import build_outbox_record
from services.publisher.outbox_repository import OutboxRepository
from shared.kafka.producer import RecordSender


class OutboxRelay:
    """Sends waiting events to Kafka at least once, the oldest first, at most `limit` per call."""

    def __init__(
        self, outbox: OutboxRepository, producer: RecordSender, topic: str, limit: int
    ) -> None:
        self._outbox = outbox
        self._producer = producer
        self._topic = topic
        self._limit = limit

    async def produce_waiting(self) -> int:
        """Sends one batch. Returns its size."""
        async with self._outbox.take(self._limit) as events:
            if events:
                await self._producer.send(
                    self._topic, [build_outbox_record(event) for event in events]
                )
        return len(events)
