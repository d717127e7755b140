"""A consumer that sleeps while nobody wants its records: they are skipped, and never fetched."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from shared.kafka.connection import unavailable
from shared.kafka.positions.tracker import PositionTracker

log = structlog.get_logger()


async def always() -> bool:
    """Somebody wants every record."""
    return True


class Dormancy:
    """Skips, without a clock, only what was produced before somebody wanted anything.

    The partitions' ends are read first, and then it is asked whether anybody wants records: if
    nobody does, whoever begins to want them after that answer begins after these ends. Reading all
    to throw it away costs 6 us a record, a fifteenth of the whole pipeline.
    """

    def __init__(
        self,
        consumer: Callable[[], AIOKafkaConsumer | None],
        is_wanted: Callable[[], Awaitable[bool]],
        skipped: Callable[[], None],
        tracker: PositionTracker | None = None,
    ) -> None:
        """`skipped` is called after each skip: troubles of earlier records no longer matter.

        `tracker` stores a position before its records are skipped. Without it nothing is stored.
        """
        self._consumer = consumer
        self._is_wanted = is_wanted
        self._skipped = skipped
        self._tracker = tracker
        self._is_asleep = False
        self._woken_at = 0.0

    def asleep_until(self) -> float:
        """Up to when no fetch could be expected, in epoch seconds: now while it sleeps, 0 if it
        never did.
        """
        return time.time() if self._is_asleep else self._woken_at

    async def look(self) -> int:
        """Sleep or wake: a sweep that never finds more.

        Raises Unavailable while a server does not answer; all stays as it was then.
        """
        consumer = self._consumer()
        if consumer is None or not (consumed := self._consumed(consumer)):
            return 0
        # Waking needs no ends, which one partition without a leader keeps back
        if await self._is_wanted():
            self._wake(consumer)
            return 0
        try:
            ends = await consumer.end_offsets(consumed)
        except KafkaError as error:
            raise unavailable(error) or error from error
        if not await self._is_wanted():
            await self._skip(consumer, ends)
        return 0

    def _consumed(self, consumer: AIOKafkaConsumer) -> set[TopicPartition]:
        assigned: set[TopicPartition] = consumer.assignment()
        return assigned if self._tracker is None else assigned & self._tracker.partitions

    async def _skip(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        if self._tracker is None:
            self._skip_to(consumer, ends)
            return
        async with self._tracker.work:
            advance = self._tracker.advance(ends)
            if advance is None:
                return  # the positions are being read; the next look skips
            if advance.is_beyond(ends):
                # A sleeping consumer fetches nothing, so no error tells it that Kafka lost records
                self._tracker.restart("a log ends before its position")
                return
            await self._tracker.store(advance)
            self._tracker.finish(advance)
            self._skip_to(consumer, ends)

    def _wake(self, consumer: AIOKafkaConsumer) -> None:
        consumer.resume(*consumer.paused() & self._consumed(consumer))
        if self._is_asleep:
            self._is_asleep, self._woken_at = False, time.time()
            log.info("records_wanted")

    def _skip_to(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        for partition, end in ends.items():
            with suppress(IllegalStateError):  # it has gone to another member meanwhile
                consumer.pause(partition)
                consumer.seek(partition, end)
        self._skipped()
        if not self._is_asleep:
            self._is_asleep = True
            log.info("records_unwanted", next="skipped until somebody wants them")
