"""Tracks a consumer's positions. Reads them before it starts, and again if Postgres may be older.

Postgres stores the positions, and Kafka the log. An operator may have restored either to an older
state. So partitions stay paused until both are read and compared (ADR 0030).
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contract.errors import Unavailable
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.checking import NEXT_STEP, PositionChecker
from shared.kafka.positions.gauges import PositionGauges
from shared.kafka.positions.preparation import Preparation
from shared.kafka.positions.reading import KAFKA_TIMEOUT_SECONDS, PositionReader
from shared.kafka.positions.rules import PartitionStart, Refusal
from shared.kafka.positions.store import PositionStore
from shared.kafka.producer import SEND_TIMEOUT_SECONDS
from shared.runtime.backoff import backoff
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0
RECHECK_SECONDS = 2.0
"""The time between two checks of whether an operator has accepted a refused partition's loss."""
IN_FLIGHT_SECONDS = SEND_TIMEOUT_SECONDS
"""The time for which a batch's outcomes may still reach Kafka after its Postgres was lost. After a
process notices an older Postgres, it waits this long before it starts partitions."""


class PositionTracker:
    """Tracks the positions of one consumer's partitions. Pauses those without a checked position.

    `consumer` returns aiokafka's consumer, or None before the start. Hold `work_lock` while you
    process a batch, store processed offsets or skip records.
    """

    def __init__(
        self,
        store: PositionStore,
        settings: KafkaSettings,
        *,
        service: str,
        consumer: Callable[[], AIOKafkaConsumer | None],
        preparation: Preparation | None = None,
    ) -> None:
        self.work_lock = asyncio.Lock()
        self._store = store
        self._service = service
        self._consumer = consumer
        self._preparation = preparation or Preparation()
        self._reader = PositionReader(
            store, settings, service=service, preparation=self._preparation
        )
        self._checker = PositionChecker(store, service=service)
        self._gauges = PositionGauges(service)
        self._positions: dict[TopicPartition, int] = {}
        """The positions of the consumed partitions. Their next batches start there."""
        self._pending: set[TopicPartition] = set()
        self._refused: dict[TopicPartition, Refusal] = {}
        self._replays: dict[TopicPartition, int] = {}
        self._checked_at = 0.0
        self.epoch = 0
        """Rises whenever positions must be read again. Drop records that were fetched in an earlier
        epoch: their positions may have changed."""
        self._task: asyncio.Task[None] | None = None

    # Events of the consumer

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Pauses partitions and begins to read their positions.

        Does not wait, because no heartbeat is sent before the rebalance listener returns. In a
        rebalance, it is called before aiokafka reads the committed offsets, so nothing is fetched
        before the pause.
        """
        consumer = self._consumer()
        if consumer is None:
            return
        self._forget()
        self._pending = set(partitions)
        for partition in partitions:
            consumer.pause(partition)
            consumer.seek(partition, 0)  # any valid offset, so that aiokafka does not look for one
        if partitions:
            self._task = asyncio.create_task(
                self._read_positions(), name=f"{self._service} positions"
            )

    def revoke(self) -> None:
        """Forgets all partitions. A batch in flight continues."""
        self._forget()

    def stop(self) -> None:
        """Stops reading positions. Called when the process stops."""
        if self._task is not None:
            self._task.cancel()

    def restart(self, reason: str) -> None:
        """Reads all positions again, because Postgres or Kafka may have been replaced."""
        log.warning("reading_positions_again", service=self._service, reason=reason)
        consumer = self._consumer()
        self.assign(consumer.assignment() if consumer else ())

    def advance(
        self,
        offsets: Mapping[TopicPartition, int],
        epoch: int | None = None,
    ) -> Advance | None:
        """Returns the span of each partition from its stored position to its offset in `offsets`.

        `offsets` are those after the batch's last records. `epoch` is `self.epoch` when they were
        fetched. Returns None if the epoch has changed, or positions are being read. The caller
        then drops the batch.
        """
        if epoch not in {None, self.epoch} or not offsets.keys() <= self._positions.keys():
            return None
        spans = {}
        for partition, end in offsets.items():
            start = self._positions[partition]
            spans[partition] = Span(start, max(end, start))
        return Advance(spans, self._checked_at)

    async def store(self, advance: Advance) -> None:
        """Moves an advance's positions, unless the batch's own transaction has moved them.

        Raises DatabaseUnavailable, PositionBehind.
        """
        if not advance.is_stored:
            await self._store.move(advance)

    def finish(self, advance: Advance) -> None:
        """Records that a batch is acknowledged. The next one starts at the end of its advance."""
        for partition, end in advance.offsets().items():
            if partition in self._positions:
                self._positions[partition] = end

    def rewind(self, partitions: Collection[TopicPartition]) -> None:
        """Seeks back to the start of a failed batch."""
        consumer = self._consumer()
        if consumer is None:
            return
        for partition in partitions:
            if partition in self._positions and partition in consumer.assignment():
                consumer.seek(partition, self._positions[partition])

    # State for the consumer

    @property
    def partitions(self) -> set[TopicPartition]:
        """The partitions that may be consumed."""
        return set(self._positions)

    @property
    def is_waiting(self) -> bool:
        """True if no partition may be consumed although some are assigned."""
        return not self._positions and bool(self._pending or self._refused)

    def problem(self) -> str | None:
        """Returns why a partition is not consumed, or None if all are."""
        if self._refused:
            names = ", ".join(
                f"{partition.topic}/{partition.partition} ({refusal})"
                for partition, refusal in sorted(self._refused.items())
            )
            return (
                f"positions do not fit Kafka's log: {names}. To see what is lost, run: {NEXT_STEP}"
            )
        return "reading positions" if self._pending else None

    # Every 2 seconds

    async def store_processed(
        self,
        processed: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Stores the processed offsets of partitions without batches. Returns the stored offsets.

        The caller holds `work_lock`. Raises PositionBehind if Postgres is older, and
        DatabaseUnavailable.
        """
        advance = self.advance(
            {
                partition: end
                for partition, end in processed.items()
                if partition in self._positions
            },
        )
        if advance is None or not advance.spans:
            return {}
        await self._store.move(advance)
        self.finish(advance)
        self._show_replays()
        return advance.offsets()

    async def run_periodic_work(self) -> None:
        """Runs the service's own periodic work. Raises Unavailable, including PositionBehind."""
        if self._positions:
            await self._preparation.run_periodic_work()

    # The task that reads positions

    def _forget(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._positions, self._pending = {}, set()
        self.epoch += 1
        self._show_refusals({})
        self._show_replays()  # sets all gauges to 0, because no partition is consumed now

    async def _read_positions(self) -> None:
        """Reads positions until every partition is consumed. Waits for servers without a limit."""
        attempt = 0
        while self._pending or self._refused:
            try:
                if self._pending or await self._is_accepted():
                    async with self.work_lock:  # waits for the batch in flight
                        await self._start_partitions()
                attempt, pause = 0, RECHECK_SECONDS
            except (Unavailable, KafkaError, OSError) as error:
                reason = str(error) or repr(error)
                log.warning("positions_not_read", service=self._service, error=reason)
                pause = backoff(attempt, first=FIRST_BACKOFF_SECONDS, limit=MAX_BACKOFF_SECONDS)
                attempt += 1
            except Exception:  # a bug must not leave partitions paused forever
                log.exception("positions_not_read", service=self._service)
                pause = MAX_BACKOFF_SECONDS
            if self._pending or self._refused:
                await asyncio.sleep(pause)

    async def _is_accepted(self) -> bool:
        return await self._checker.is_accepted(set(self._refused))

    async def _start_partitions(self) -> None:
        """Starts each partition whose position fits Kafka's log."""
        consumer = self._consumer()
        if consumer is None:
            return
        await self._store.warm()
        checked_at = time.monotonic()
        snapshot = await self._reader.read(consumer, self._pending | self._refused.keys())
        check = await self._checker.check(snapshot)
        unread = {
            partition: refusal
            for partition, refusal in self._refused.items()
            if partition not in snapshot.logs
        }
        self._replays |= check.replays
        self._show_refusals(unread | check.refused)
        self._pending -= self._refused.keys()
        if check.starts:
            await asyncio.sleep(self._store.remaining_wait(IN_FLIGHT_SECONDS))
            await self._preparation.catch_up()
            await self._resume(consumer, check.starts, checked_at)

    async def _resume(
        self,
        consumer: AIOKafkaConsumer,
        starts: Mapping[TopicPartition, PartitionStart],
        checked_at: float,
    ) -> None:
        """Resumes partitions at their starts. First lowers committed offsets that are too high."""
        lowered = {
            partition: start.offset
            for partition, start in starts.items()
            if start.replay_until is not None
        }
        if lowered:
            async with asyncio.timeout(KAFKA_TIMEOUT_SECONDS):  # aiokafka has no timeout
                await consumer.commit(lowered)
        self._checked_at = checked_at
        for partition, start in starts.items():
            if partition in consumer.assignment():
                consumer.seek(partition, start.offset)
                consumer.resume(partition)
                self._positions[partition] = start.offset
        self._pending -= starts.keys()
        self._show_replays()
        log.info("partitions_started", service=self._service, partitions=len(starts))

    # Metrics

    def _show_refusals(self, refused: dict[TopicPartition, Refusal]) -> None:
        self._refused = refused
        self._gauges.show_refusals(refused)

    def _show_replays(self) -> None:
        self._replays = self._gauges.show_replays(self._replays, self._positions)
