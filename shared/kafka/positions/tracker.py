"""Keeps a consumer's positions: reads them before it starts, and again if Postgres may be older.

Postgres holds the positions and Kafka the log. Either may have been replaced by an older copy
unnoticed. So partitions stay paused until both are read and compared (ADR 0030).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contract.errors import BrokerUnavailable, Unavailable
from shared.kafka.admin import cluster_id
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.rules import PartitionLog, Refusal, Start, StoredPosition, judge
from shared.kafka.positions.store import PositionStore
from shared.kafka.producer import SEND_TIMEOUT_SECONDS
from shared.runtime import metrics
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

T = TypeVar("T")

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
RECHECK_SECONDS = 2.0
"""How often a refused partition is checked again: an operator may have accepted the loss."""
KAFKA_SECONDS = 10.0
"""The timeout for reading one partition's offsets from Kafka, and for one commit."""
IN_FLIGHT_SECONDS = SEND_TIMEOUT_SECONDS
"""How long a batch's outcomes may still arrive after the Postgres that stored it was lost. A
process waits this long after it notices an older Postgres, before it starts any partition."""

NEXT_STEP = "pinflow recover"


class Preparation:
    """A service's own work before its partitions start and while they are consumed. Default: none.

    Called by PositionTracker. Every method may raise Unavailable.
    """

    async def offsets_to_take_over(self) -> dict[TopicPartition, int]:
        """Returns positions to store in addition to the group's committed offsets."""
        return {}

    async def catch_up(self) -> None:
        """Runs after each reading of the positions, before partitions start."""

    async def move_along(self) -> None:
        """Runs about every 2 s while partitions are consumed. Raises PositionBehind."""


class PositionTracker:
    """Keeps the positions of one consumer's partitions, and pauses partitions without one.

    `consumer` returns aiokafka's consumer, or None before it has started. Hold the lock `work`
    while you process a batch, store processed offsets or skip records.
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
        self.work = asyncio.Lock()
        self._store = store
        self._settings = settings
        self._service = service
        self._consumer = consumer
        self._preparation = preparation or Preparation()
        self._known: dict[TopicPartition, int] = {}
        """The positions of the partitions that are consumed. Their next batches start there."""
        self._pending: set[TopicPartition] = set()
        self._refused: dict[TopicPartition, Refusal] = {}
        self._replays: dict[TopicPartition, int] = {}
        self._checked_at = 0.0
        self.reading = 0
        """Counts the readings of positions. Drop records that were fetched before the last reading:
        the positions may differ now."""
        self._task: asyncio.Task[None] | None = None

    # Events of the consumer

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Pauses partitions and begins to read their positions.

        Does not wait: no heartbeat is sent before the listener returns. Called before aiokafka
        knows any committed offset, so nothing is fetched before `seek`.
        """
        consumer = self._consumer()
        if consumer is None:
            return
        self._forget()
        self._pending = set(partitions)
        for partition in partitions:
            consumer.pause(partition)
            consumer.seek(partition, 0)  # any valid position: without one aiokafka looks for one
        if partitions:
            self._task = asyncio.create_task(self._settle(), name=f"{self._service} positions")

    def revoke(self) -> None:
        """Forgets all partitions. A batch in flight goes on."""
        self._forget()

    def stop(self) -> None:
        """Stops the reading of positions. Called when the process stops."""
        if self._task is not None:
            self._task.cancel()

    def restart(self, reason: str) -> None:
        """Reads all positions again: Postgres or Kafka may have been replaced."""
        log.warning("positions_read_again", service=self._service, reason=reason)
        consumer = self._consumer()
        self.assign(consumer.assignment() if consumer else ())

    def advance(
        self,
        offsets: Mapping[TopicPartition, int],
        reading: int | None = None,
    ) -> Advance | None:
        """Returns the advance of a batch from the stored positions to `offsets`.

        `offsets` lie behind the batch's last records. `reading` is the value of `self.reading` at
        their fetch. Returns None if positions have been read since, or are being read: then drop
        the batch.
        """
        if reading not in {None, self.reading} or not offsets.keys() <= self._known.keys():
            return None
        spans = {}
        for partition, end in offsets.items():
            start = self._known[partition]
            spans[partition] = Span(start, max(end, start))
        return Advance(spans, self._checked_at)

    async def store(self, advance: Advance) -> None:
        """Moves an advance's positions, unless the batch's own transaction has moved them.

        Raises DatabaseUnavailable, PositionBehind.
        """
        if not advance.is_stored:
            await self._store.move(advance)

    def finish(self, advance: Advance) -> None:
        """Notes that a batch is complete: the next one starts where its advance ends."""
        for partition, end in advance.offsets().items():
            if partition in self._known:
                self._known[partition] = end

    def rewind(self, partitions: Collection[TopicPartition]) -> None:
        """Seeks back to the start of a failed batch."""
        consumer = self._consumer()
        if consumer is None:
            return
        for partition in partitions:
            if partition in self._known and partition in consumer.assignment():
                consumer.seek(partition, self._known[partition])

    # State for the consumer

    @property
    def partitions(self) -> set[TopicPartition]:
        """The partitions that may be consumed."""
        return set(self._known)

    @property
    def is_waiting(self) -> bool:
        """Whether no partition may be consumed although some are assigned."""
        return not self._known and bool(self._pending or self._refused)

    def trouble(self) -> str | None:
        """Returns why a partition is not consumed, or None if all are."""
        if self._refused:
            names = ", ".join(
                f"{partition.topic}/{partition.partition} ({refusal})"
                for partition, refusal in sorted(self._refused.items())
            )
            return f"positions do not fit Kafka's log: {names}. See what is lost with: {NEXT_STEP}"
        return "reading positions" if self._pending else None

    # Every 2 seconds

    async def store_processed(
        self,
        processed: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Stores the processed offsets of partitions without batches. Returns what it stored.

        The caller holds `work`. Raises PositionBehind if Postgres is older, DatabaseUnavailable.
        """
        advance = self.advance(
            {partition: end for partition, end in processed.items() if partition in self._known},
        )
        if advance is None or not advance.spans:
            return {}
        await self._store.move(advance)
        self.finish(advance)
        self._show_replays()
        return advance.offsets()

    async def move_along(self) -> None:
        """Runs the service's own periodic work. Raises Unavailable, including PositionBehind."""
        if self._known:
            await self._preparation.move_along()

    # The task that reads positions

    def _forget(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._known, self._pending = {}, set()
        self.reading += 1
        self._show_refusals({})
        self._show_replays()  # no partition is known any more: sets all gauges to 0

    async def _settle(self) -> None:
        """Reads positions until every partition is consumed. Waits for servers without a limit."""
        attempt = 0
        while self._pending or self._refused:
            try:
                if self._pending or await self._is_accepted():
                    async with self.work:  # the batch in flight ends first
                        await self._establish()
                attempt, pause = 0, RECHECK_SECONDS
            except (Unavailable, KafkaError, OSError) as error:
                reason = str(error) or repr(error)
                log.warning("positions_wait", service=self._service, error=reason)
                pause = min(FIRST_BACKOFF_SECONDS * 2**attempt, LONGEST_BACKOFF_SECONDS)
                attempt += 1
            except Exception:  # a bug must not leave partitions paused for ever
                log.exception("positions_failed", service=self._service)
                pause = LONGEST_BACKOFF_SECONDS
            if self._pending or self._refused:
                await asyncio.sleep(pause)

    async def _is_accepted(self) -> bool:
        """Tells whether an operator has accepted the loss in a refused partition."""
        stored = await self._store.load()
        refused = {partition for partition, position in stored.items() if position.refused}
        return not self._refused.keys() <= refused

    async def _establish(self) -> None:
        """Starts each partition whose position is known and fits the log."""
        consumer = self._consumer()
        if consumer is None:
            return
        await self._store.warm()
        checked_at = time.monotonic()
        cluster = await cluster_id(self._settings)
        if await self._store.is_seeded():
            await self._take_over(consumer, cluster)
        # Other members may work meanwhile. They store a position before they commit its offset, and
        # it lies within the log. In this order each is at most the next, unless a server is older
        partitions = self._pending | self._refused.keys()
        committed = await self._read_each(partitions, partial(_committed, consumer))
        stored = await self._store.load()
        bounds = await self._read_each(committed, partial(_bounds, consumer))
        logs = {
            partition: PartitionLog(begin, end, committed[partition])
            for partition, (begin, end) in bounds.items()
        }
        missing = {partition: logs[partition].begin for partition in logs.keys() - stored.keys()}
        stored |= await self._add_missing(missing, cluster)
        starts = await self._judge_all(logs, stored, cluster)
        if starts:
            await asyncio.sleep(self._store.seconds_since_older(IN_FLIGHT_SECONDS))
            await self._preparation.catch_up()
            await self._start(consumer, starts, checked_at)

    async def _read_each(
        self,
        partitions: Iterable[TopicPartition],
        read: Callable[[TopicPartition], Awaitable[T]],
    ) -> dict[TopicPartition, T]:
        """Reads each partition from Kafka with `read`.

        Leaves out a partition that has no leader: the next attempt reads it again.
        """
        ordered = sorted(partitions)
        found = await asyncio.gather(*map(read, ordered), return_exceptions=True)
        answers: dict[TopicPartition, T] = {}
        for partition, answer in zip(ordered, found, strict=True):
            if not isinstance(answer, BaseException):
                answers[partition] = answer
            elif isinstance(answer, KafkaError | OSError):
                fields = {"partition": str(partition), "error": repr(answer)}
                log.warning("partition_unread", service=self._service, **fields)
            else:
                raise answer
        return answers

    async def _add_missing(
        self,
        begins: dict[TopicPartition, int],
        cluster: str,
    ) -> dict[TopicPartition, StoredPosition]:
        """Stores missing positions at the log's beginning. Returns what is stored then."""
        if not begins:
            return {}
        await self._store.add(begins, cluster)
        stored = await self._store.load()
        return {partition: stored[partition] for partition in begins}

    async def _take_over(self, consumer: AIOKafkaConsumer, cluster: str) -> None:
        """Stores the group's committed offsets in all partitions of all its topics."""
        partitions = {
            TopicPartition(topic, number)
            for topic in consumer.subscription()
            for number in consumer.partitions_for_topic(topic) or ()
        }
        committed = await self._read_each(partitions, partial(_committed, consumer))
        bounds = await self._read_each(partitions, partial(_bounds, consumer))
        if not committed.keys() == bounds.keys() == partitions:
            unread = sorted(partitions - (committed.keys() & bounds.keys()))
            raise BrokerUnavailable(
                f"committed offsets can't be taken over while partitions have no leader: {unread}",
            )
        begins = {partition: begin for partition, (begin, _) in bounds.items()}
        offsets = begins | {
            partition: offset for partition, offset in committed.items() if offset is not None
        }
        offsets |= await self._preparation.offsets_to_take_over()
        await self._store.add(offsets, cluster, takes_over=True)
        log.info("positions_taken_over", service=self._service, partitions=len(offsets))

    async def _judge_all(
        self,
        logs: Mapping[TopicPartition, PartitionLog],
        stored: Mapping[TopicPartition, StoredPosition],
        cluster: str,
    ) -> dict[TopicPartition, Start]:
        """Decides where partitions start. Stores and shows refusals and replays."""
        starts: dict[TopicPartition, Start] = {}
        refused = {
            partition: refusal
            for partition, refusal in self._refused.items()
            if partition not in logs
        }
        for partition, partition_log in logs.items():
            position = stored[partition]
            verdict = judge(position, partition_log, cluster)
            if isinstance(verdict, Refusal):
                refused[partition] = verdict
                if position.refused is None:
                    await self._refuse(partition, position, partition_log, verdict)
                continue
            starts[partition] = verdict
            if verdict.replay_until is not None:
                fields = {"partition": str(partition), **verdict._asdict()}
                log.warning("postgres_is_older", service=self._service, **fields)
                metrics.REPLAYS.labels(self._service).inc()
            await self._note_replay(partition, position, verdict, partition_log.end)
        self._pending -= refused.keys()
        self._show_refusals(refused)
        return starts

    async def _refuse(
        self,
        partition: TopicPartition,
        position: StoredPosition,
        partition_log: PartitionLog,
        refusal: Refusal,
    ) -> None:
        fields = {
            "partition": str(partition),
            "refusal": refusal,
            "stored": position.next_offset,
            "cluster_id": position.cluster_id,
            **partition_log._asdict(),
        }
        log.critical("position_refused", service=self._service, **fields, next=NEXT_STEP)
        await self._store.refuse(partition, refusal)

    async def _note_replay(
        self,
        partition: TopicPartition,
        position: StoredPosition,
        start: Start,
        end: int,
    ) -> None:
        """Stores the end of a partition's replay. It lies at most at the log's end."""
        until = max(start.replay_until or 0, min(position.replay_until or 0, end))
        if until != (position.replay_until or 0):
            await self._store.replay(partition, until)
        if until > start.offset:
            self._replays[partition] = until

    async def _start(
        self,
        consumer: AIOKafkaConsumer,
        starts: Mapping[TopicPartition, Start],
        checked_at: float,
    ) -> None:
        """Resumes partitions at their starts. First lowers committed offsets that are ahead."""
        lowered = {
            partition: start.offset
            for partition, start in starts.items()
            if start.replay_until is not None
        }
        if lowered:
            async with asyncio.timeout(KAFKA_SECONDS):  # aiokafka would try for ever
                await consumer.commit(lowered)
        self._checked_at = checked_at
        for partition, start in starts.items():
            if partition in consumer.assignment():
                consumer.seek(partition, start.offset)
                consumer.resume(partition)
                self._known[partition] = start.offset
        self._pending -= starts.keys()
        self._show_replays()
        log.info("positions_known", service=self._service, partitions=len(starts))

    # Metrics

    def _show_refusals(self, refused: dict[TopicPartition, Refusal]) -> None:
        gauge = metrics.POSITION_REFUSED
        for partition, refusal in self._refused.items() - refused.items():
            gauge.labels(self._service, partition.topic, partition.partition, refusal).set(0)
        for partition, refusal in refused.items():
            gauge.labels(self._service, partition.topic, partition.partition, refusal).set(1)
        self._refused = refused

    def _show_replays(self) -> None:
        gauge = metrics.REPLAY_RECORDS
        for partition, until in list(self._replays.items()):
            left = max(0, until - self._known[partition]) if partition in self._known else 0
            gauge.labels(self._service, partition.topic, partition.partition).set(left)
            if not left:
                del self._replays[partition]


async def _committed(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    async with asyncio.timeout(KAFKA_SECONDS):
        offset: int | None = await consumer.committed(partition)
        return offset


async def _bounds(consumer: AIOKafkaConsumer, partition: TopicPartition) -> tuple[int, int]:
    """Reads a partition's first offset and the offset behind its last record."""
    async with asyncio.timeout(KAFKA_SECONDS):
        begins = await consumer.beginning_offsets([partition])
        ends = await consumer.end_offsets([partition])
    return begins[partition], ends[partition]
