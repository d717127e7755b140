"""Stores and commits the processed offsets of partitions without batches.

Records that a filter skips are in no batch, so no batch commits their offsets. The same is true of
aborted transactions on import-requests. Without these commits, admission control would count such
records as backlog forever, because it reads the publisher's lag from Kafka.
"""

import asyncio
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contract.errors import PositionBehind, Unavailable
from shared.kafka.consumer_health.progress import Progress
from shared.kafka.positions.tracker import PositionTracker

log = structlog.get_logger()

INTERVAL_SECONDS = 2.0
COMMIT_TIMEOUT_SECONDS = 20.0
"""The timeout for one commit: aiokafka has none."""


class IdleCommitter:
    """Commits processed offsets while no batch is in flight. Run by BatchConsumer."""

    def __init__(
        self,
        *,
        title: str,
        consumer: Callable[[], AIOKafkaConsumer | None],
        progress: Progress,
        idle: asyncio.Event,
        tracker: PositionTracker | None,
        position_behind: Callable[[str], None],
    ) -> None:
        """Receives the parts of the consumer that it uses.

        `idle` is set while no batch is processed. `position_behind` is called with the reason if
        Postgres is older than the positions.
        """
        self._title = title
        self._consumer = consumer
        self._progress = progress
        self._idle = idle
        self._tracker = tracker
        self._position_behind = position_behind
        self.committed: dict[TopicPartition, int] = {}
        """The offsets of the last commit."""

    async def run(self) -> None:
        """Runs until it is canceled."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            try:
                await self._store_and_commit()
            except PositionBehind as error:
                self._position_behind(str(error))
            except (Unavailable, KafkaError, TimeoutError):
                continue  # the next attempt may succeed, and failing batches log the reason
            except Exception as error:
                log.exception("commit_failed", consumer=self._title, exc_info=error)

    async def _store_and_commit(self) -> None:
        if not self._idle.is_set():
            return
        if self._tracker is None:
            await self._commit(await self._progress.processed_offsets())
            return
        async with self._tracker.work_lock:
            processed = await self._progress.processed_offsets()
            if processed:
                await self._commit(await self._tracker.store_processed(processed))
        await self._tracker.run_periodic_work()

    async def _commit(self, processed: dict[TopicPartition, int]) -> None:
        consumer = self._consumer()
        # Empty if other members have all partitions: aiokafka refuses an empty commit
        if consumer is None or not processed or processed == self.committed:
            return
        async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
            await consumer.commit(processed)
        if self._idle.is_set():  # otherwise a batch may have committed more meanwhile
            self.committed = processed
