"""Fetches one batch at a time. Decides which failed fetches end the process."""

import structlog
from aiokafka.errors import ConsumerStoppedError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiolimiter import AsyncLimiter

from shared.kafka.batches import Batch
from shared.kafka.broker import GroupMember
from shared.kafka.consumer_health.health import ConsumerHealth
from shared.kafka.consumer_health.progress import Progress
from shared.kafka.positions.tracker import PositionTracker

log = structlog.get_logger()


class BatchFetcher:
    """Fetches a member's batches. Called by BatchConsumer."""

    def __init__(
        self,
        member: GroupMember,
        *,
        title: str,
        max_records: int,
        progress: Progress,
        health: ConsumerHealth,
        tracker: PositionTracker | None,
        rate_limit: AsyncLimiter | None,
    ) -> None:
        self._member = member
        self._title = title
        self._max_records = max_records
        self._progress = progress
        self._health = health
        self._tracker = tracker
        self._rate_limit = rate_limit
        self._was_full = False
        self.epoch = 0
        """The tracker's epoch at the last fetch."""

    async def fetch(self) -> Batch:
        """Waits for a batch. Returns an empty one if positions must be read again first.

        Raises ConsumerStoppedError if the consumer was stopped or is lost.
        """
        if self._rate_limit is not None and not self._was_full:
            # After a full batch, the next one is already waiting. A delay would not make it larger
            await self._rate_limit.acquire()
        try:
            batch = await self._member.fetch()
        except ConsumerStoppedError:
            raise
        except Exception as error:  # noqa: BLE001 - decompressors raise their own
            self._handle(error)
            return ()
        self._was_full = len(batch) >= self._max_records
        self.epoch = self._tracker.epoch if self._tracker is not None else 0
        self._progress.start(batch)
        return batch

    def _handle(self, error: Exception) -> None:
        # aiokafka raises these two before it takes records of any partition, so none is lost
        is_position_invalid = isinstance(error, OffsetOutOfRangeError | NoOffsetForPartitionError)
        if is_position_invalid and self._tracker is not None:
            self._tracker.restart(repr(error))
            return
        # For example a corrupt record, or a topic that this user may not read. aiokafka drops the
        # records that it had already taken from other partitions: the next commit would skip them
        log.critical("fetch_failed", consumer=self._title, exc_info=error)
        self._health.give_up(repr(error))
        raise ConsumerStoppedError from error
