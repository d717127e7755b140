"""Announces attempts on the topic `deliveries`, without reading it.

The log in services/publisher/delivery/log/ replaces it: that one also reads the topic after a
restore.
"""

from datetime import UTC, datetime

import structlog

from services.publisher.delivery.model import AttemptOutcome, DeliveryAttempt
from shared.contract.errors import Unavailable
from shared.contract.events import DeliveryAttempted, DeliverySettled
from shared.contract.wire import WireStruct, encode
from shared.kafka.producer import RecordSender
from shared.kafka.records import Record

log = structlog.get_logger()

SEND_SECONDS = 5.0


class ProducingDeliveryLog:
    """Implements DeliveryLog. Its gate is always open."""

    def __init__(self, producer: RecordSender, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def require_open(self, connected_at: float) -> None:
        """Raises nothing."""

    async def announce(self, attempt: DeliveryAttempt) -> None:
        """Returns after Kafka has the attempt. Raises BrokerUnavailable."""
        names = ("attempt_id", "pin_id", "number", "workspace_id", "account_id", "mode", "fence")
        record = DeliveryAttempted(
            **{name: getattr(attempt, name) for name in names},
            board_id=attempt.board_id,
            texts=attempt.texts._asdict(),
            started_at=attempt.started_at,
            deadline_at=attempt.deadline_at,
        )
        await self._send(attempt, record)

    async def settle(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> None:
        """Sends the outcome. Logs a failure."""
        record = DeliverySettled(
            attempt_id=attempt.attempt_id,
            pin_id=attempt.pin_id,
            account_id=attempt.account_id,
            outcome=outcome,
            pinterest_pin_id=pinterest_pin_id,
            settled_at=datetime.now(UTC),
        )
        try:
            await self._send(attempt, record)
        except Unavailable as error:
            log.warning("delivery_settled_not_sent", error=str(error))

    async def _send(self, attempt: DeliveryAttempt, record: WireStruct) -> None:
        key = str(attempt.account_id).encode()
        await self._producer.send(
            self._topic, [Record(key, encode(record), [])], seconds=SEND_SECONDS
        )
