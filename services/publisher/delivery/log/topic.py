"""The topic `deliveries` as the delivery process uses it: announcements, outcomes and the gate."""

import asyncio
import time
from datetime import UTC, datetime

import structlog
from aiokafka.errors import KafkaError

from services.publisher.delivery.config import DeliverySettings
from services.publisher.delivery.log.applying import AttemptApplier
from services.publisher.delivery.log.fold import DeliveryFold
from services.publisher.delivery.log.reading import DeliveryLogReader
from services.publisher.delivery.log.records import build_attempted_record, build_settled_record
from services.publisher.delivery.log.repository import AttemptLogRepository
from services.publisher.delivery.model import AttemptOutcome, DeliveryAttempt
from shared.contract.errors import BrokerUnavailable, Unavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import RecordSender
from shared.postgres.database import Database
from shared.runtime import metrics
from shared.runtime.tasks import retrieve_exception

log = structlog.get_logger()

ANNOUNCE_SECONDS = 5.0
"""The timeout of an announcement. The account's lease must outlast it and the request."""
CHECK_INTERVAL_SECONDS = 5.0
"""The time between two periodic readings of the topic."""
RETRY_SECONDS = 2.0
"""After a failed reading, calls fail at once for this time instead of reading again."""
UNREAD = "nothing is sent to Pinterest: the topic deliveries has not been read yet"


class DeliveryClosed(Unavailable):
    """Nothing may be sent to Pinterest now. The message says why."""


class TopicDeliveryLog:
    """Implements DeliveryLog. Call `run_periodic_work` every CHECK_INTERVAL_SECONDS.

    The fold has a connection to Postgres of its own. It opens another one whenever a connection is
    newer than its last reading: then both lead to the same Postgres, or the fold's to a newer one.
    """

    def __init__(
        self, settings: DeliverySettings, names: TopicNames, producer: RecordSender
    ) -> None:
        database = Database.from_settings(
            settings, application="pinflow-delivery-log", connections=1
        )
        self._mode = settings.pinterest_mode
        self._topic = names[TopicName.DELIVERIES]
        self._producer = producer
        self._repository = AttemptLogRepository(database)
        self._reader = DeliveryLogReader(settings, names)
        applier = AttemptApplier(database, mode=self._mode)
        self._fold = DeliveryFold(self._repository, applier, self._reader, self._topic)
        self._lock = asyncio.Lock()
        self._renewals: set[asyncio.Task[None]] = set()
        self._obstacle: str | None = UNREAD
        self._checked_at = float("-inf")
        """The monotonic time right before the fold's connection was opened. Older connections lead
        to the same Postgres. It has all of the topic, unless there is an obstacle."""
        self._retry_at = float("-inf")
        metrics.DELIVERY_OPEN.labels(self._mode).set(0)  # the first reading may take long

    # The interface DeliveryLog

    async def require_open(self, connected_at: float) -> None:
        """Raises Unavailable while the database may lack attempts that Kafka has."""
        if connected_at > self._checked_at:
            # If a caller whose time is over ended the reading, the gate would close for all
            # accounts: others wait for it, too
            renewal = asyncio.create_task(self._renew(connected_at))
            self._renewals.add(renewal)
            renewal.add_done_callback(retrieve_exception)
            renewal.add_done_callback(self._renewals.discard)
            await asyncio.shield(renewal)
        if self._obstacle is not None:
            raise DeliveryClosed(self._obstacle)

    async def announce(self, attempt: DeliveryAttempt) -> None:
        """Returns after Kafka has the attempt. Raises BrokerUnavailable: then send nothing."""
        record = build_attempted_record(attempt)
        try:
            await self._producer.send(self._topic, [record], seconds=ANNOUNCE_SECONDS)
        except KafkaError as error:
            raise BrokerUnavailable(repr(error)) from error

    async def settle(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> None:
        """Tells Kafka the outcome. Never raises: a lost record only costs a confirmation."""
        record = build_settled_record(attempt, outcome, pinterest_pin_id, datetime.now(UTC))
        try:
            await self._producer.send(self._topic, [record], seconds=ANNOUNCE_SECONDS)
        except (Unavailable, KafkaError, OSError) as error:
            log.warning(
                "outcome_not_announced", attempt_id=str(attempt.attempt_id), error=str(error)
            )

    # For the process

    async def run_periodic_work(self) -> int:
        """Reads the topic to its end. Returns 0. Raises Unavailable."""
        async with self._lock:
            await self._check(renew=False)
        return 0

    def problem(self) -> str | None:
        """Returns why nothing may be sent, or None. For /readyz."""
        return self._obstacle

    async def close(self) -> None:
        """Closes the connections to Kafka and Postgres."""
        for renewal in self._renewals:
            renewal.cancel()
        await asyncio.gather(*self._renewals, return_exceptions=True)
        await self._reader.close()
        await self._repository.dispose()

    async def _renew(self, connected_at: float) -> None:
        """Reads the topic, unless that was done since `connected_at`. Raises Unavailable."""
        async with self._lock:
            if connected_at > self._checked_at:
                await self._check(renew=True)

    async def _check(self, *, renew: bool) -> None:
        """Reads the topic to its end, and opens or closes the gate. The caller holds the lock."""
        started_at = time.monotonic()
        if renew and started_at < self._retry_at:
            raise DeliveryClosed(self._obstacle or UNREAD)
        try:
            if renew:
                await self._repository.renew_connection()
            self._set(await self._fold.catch_up())
        except BaseException as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            reason = str(error) or type(error).__name__
            self._set(f"nothing is sent to Pinterest: the topic deliveries can't be read: {reason}")
            raise
        if renew:  # otherwise the fold's connection may lead to an older Postgres than a later one
            self._checked_at = started_at
        self._retry_at = float("-inf")

    def _set(self, obstacle: str | None) -> None:
        if obstacle != self._obstacle:
            if obstacle is None:
                log.info("delivery_opened")
            else:
                log.warning("delivery_closed", reason=obstacle)
        self._obstacle = obstacle
        metrics.DELIVERY_OPEN.labels(self._mode).set(obstacle is None)
