"""Pauses a consumer while nothing uses its records. They are skipped without being fetched."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from shared.kafka.connection import translate_error
from shared.kafka.positions.tracker import PositionTracker

log = structlog.get_logger()


async def always() -> bool:
    """Returns True: the records are always used."""
    return True


class PauseWhenUnused:
    """Skips a topic's records while nothing uses them, for example while no webhook is enabled.

    Before it skips, a check reads the partitions' ends and then calls `is_wanted`. If that returns
    False, the consumer skips to these ends: a webhook enabled later gets only events after them.
    This order avoids a comparison of clocks. Fetching and dropping the records instead would cost
    6 µs per record, a fifteenth of the whole pipeline.
    """

    def __init__(
        self,
        consumer: Callable[[], AIOKafkaConsumer | None],
        is_wanted: Callable[[], Awaitable[bool]],
        skipped: Callable[[], None],
        tracker: PositionTracker | None = None,
    ) -> None:
        """Calls `skipped` after each skip, because failures of skipped records no longer matter.

        `tracker` stores the new positions before records are skipped. None: none are stored.
        """
        self._consumer = consumer
        self._is_wanted = is_wanted
        self._skipped = skipped
        self._tracker = tracker
        self._is_paused = False
        self._resumed_at = 0.0

    def last_paused_at(self) -> float:
        """Returns the last moment at which the consumer was paused, in epoch seconds.

        This is the current time while it is paused, and 0 if it never was.
        """
        return time.time() if self._is_paused else self._resumed_at

    async def check(self) -> int:
        """Pauses or resumes the consumer. Run by a PeriodicTask.

        Returns 0, so that the next check waits for the interval. Raises Unavailable, and
        changes nothing, if a server does not answer.
        """
        consumer = self._consumer()
        if consumer is None or not (partitions := self._consumed_partitions(consumer)):
            return 0
        # Checked before the end offsets are read, because a missing leader must not delay a resume
        if await self._is_wanted():
            self._resume(consumer)
            return 0
        try:
            ends = await consumer.end_offsets(partitions)
        except KafkaError as error:
            raise translate_error(error) or error from error
        if not await self._is_wanted():
            await self._skip(consumer, ends)
        return 0

    def _consumed_partitions(self, consumer: AIOKafkaConsumer) -> set[TopicPartition]:
        assigned: set[TopicPartition] = consumer.assignment()
        return assigned if self._tracker is None else assigned & self._tracker.partitions

    async def _skip(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        if self._tracker is None:
            self._skip_to(consumer, ends)
            return
        async with self._tracker.work_lock:
            advance = self._tracker.advance(ends)
            if advance is None:
                return  # the positions are being read; the next check skips
            if advance.is_beyond(ends):
                # Kafka lost records. A paused consumer gets no fetch error that would show it
                self._tracker.restart("Kafka's log ends before the stored position")
                return
            await self._tracker.store(advance)
            self._tracker.finish(advance)
            self._skip_to(consumer, ends)

    def _resume(self, consumer: AIOKafkaConsumer) -> None:
        consumer.resume(*consumer.paused() & self._consumed_partitions(consumer))
        if self._is_paused:
            self._is_paused, self._resumed_at = False, time.time()
            log.info("consumer_resumed")

    def _skip_to(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        for partition, end in ends.items():
            with suppress(IllegalStateError):  # another member has got the partition
                consumer.pause(partition)
                consumer.seek(partition, end)
        self._skipped()
        if not self._is_paused:
            self._is_paused = True
            log.info("consumer_paused", next="records are skipped until something uses them")
