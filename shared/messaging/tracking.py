"""Keeps a consumer's positions: reads them before it starts, and again when Postgres may be older.

Postgres holds the positions and Kafka the log. Either may have been replaced by an older copy while
nobody looked. So partitions stay paused until both have been read and compared (ADR 0030).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared import metrics
from shared.errors import BrokerUnavailable, Unavailable
from shared.messaging.admin import cluster_id
from shared.messaging.advance import Advance, Span
from shared.messaging.position_store import PositionStore
from shared.messaging.positions import PartitionLog, Refusal, Start, StoredPosition, judge
from shared.messaging.records import SEND_TIMEOUT_SECONDS
from shared.settings import KafkaSettings

log = structlog.get_logger()

T = TypeVar("T")

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
RECHECK_SECONDS = 2.0
"""How often a refused partition is looked at again: an operator may have accepted the loss."""
KAFKA_SECONDS = 10.0
"""How long one look at a partition in Kafka may take."""
IN_FLIGHT_SECONDS = SEND_TIMEOUT_SECONDS
"""How long outcomes may still come of a batch that was stored in a Postgres which was lost. A
process that has seen later positions waits for so long before it starts anything."""

NEXT_STEP = "pinflow recover"


class Preparation:
    """What a service does before its partitions start, and while they are consumed. This: nothing.

    All raise Unavailable, and `move_along` PositionBehind.
    """

    async def taken_over(self) -> dict[TopicPartition, int]:
        """Returns further positions to store when the group's committed offsets are taken over."""
        return {}

    async def catch_up(self) -> None:
        """Runs at each reading of the positions, before partitions start."""

    async def move_along(self) -> None:
        """Runs about every 2 s while all is well."""


class PositionTracker:
    """The positions of one consumer's partitions. `consumer` gives aiokafka's, None before it has
    started.

    `work` is held by whoever works on positions: a batch, a look, a skip.
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
        """Positions of partitions that are consumed: where their next batch starts."""
        self._pending: set[TopicPartition] = set()
        self._refused: dict[TopicPartition, Refusal] = {}
        self._replays: dict[TopicPartition, int] = {}
        self._checked_at = 0.0
        self.reading = 0
        """Counts the readings of positions. Records that were fetched before the last one count no
        more: the positions may be others now."""
        self._task: asyncio.Task[None] | None = None

    # What the consumer tells

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
        """Forgets all partitions. The batch in flight goes on."""
        self._forget()

    def stop(self) -> None:
        """Ends the reading of positions: the process stops."""
        if self._task is not None:
            self._task.cancel()

    def restart(self, reason: str) -> None:
        """Reads all positions anew: Postgres or Kafka may have been replaced."""
        log.warning("positions_read_again", service=self._service, reason=reason)
        consumer = self._consumer()
        self.assign(consumer.assignment() if consumer else ())

    def advance(self, offsets: Mapping[TopicPartition, int], reading: int | None = None) -> Advance | None:
        """Returns what a batch stands on; `offsets` are those behind its last records.

        `reading`: that in which its records were fetched. None if the positions of one of its
        partitions are being read, or have been since: then the batch must be dropped.
        """
        if reading not in {None, self.reading} or not offsets.keys() <= self._known.keys():
            return None
        spans = {partition: Span(self._known[partition], max(end, self._known[partition])) for partition, end in offsets.items()}
        return Advance(spans, self._checked_at)

    async def store(self, advance: Advance) -> None:
        """Moves a advance's positions if its work has not. Raises DatabaseUnavailable, PositionBehind."""
        if not advance.is_stored:
            await self._store.move(advance)

    def done(self, advance: Advance) -> None:
        """Notes that a advance's work is finished: the next batch starts behind it."""
        self._known |= {partition: span.end for partition, span in advance.spans.items() if partition in self._known}

    def rewind(self, partitions: Collection[TopicPartition]) -> None:
        """Seeks back to where a batch that failed started."""
        consumer = self._consumer()
        if consumer is None:
            return
        for partition in partitions:
            if partition in self._known and partition in consumer.assignment():
                consumer.seek(partition, self._known[partition])

    # What the consumer asks

    @property
    def partitions(self) -> set[TopicPartition]:
        """The partitions that may be consumed."""
        return set(self._known)

    @property
    def is_waiting(self) -> bool:
        """Whether no partition may be consumed although some are assigned."""
        return not self._known and bool(self._pending or self._refused)

    def trouble(self) -> str | None:
        """Returns why some partition is not consumed, or None."""
        if self._refused:
            names = ", ".join(
                f"{partition.topic}/{partition.partition} ({refusal})" for partition, refusal in sorted(self._refused.items())
            )
            return f"positions do not fit Kafka's log: {names}. See what is lost with: {NEXT_STEP}"
        return "reading positions" if self._pending else None

    # What is done every 2 seconds

    async def look(self, processed: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Stores how far partitions are that had nothing for this consumer; `work` must be held.

        Returns the offsets. Also finds out whether Postgres has been replaced: then it raises
        PositionBehind, or DatabaseUnavailable.
        """
        advance = self.advance({partition: end for partition, end in processed.items() if partition in self._known})
        if advance is None or not advance.spans:
            return {}
        await self._store.move(advance)
        self.done(advance)
        self._show_replays()
        return advance.offsets()

    async def move_along(self) -> None:
        """Does the service's own part of a look. Raises what `look` raises, and BrokerUnavailable."""
        if self._known:
            await self._preparation.move_along()

    # The task

    def _forget(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._known, self._pending = {}, set()
        self.reading += 1
        self._show_refusals({})
        self._show_replays()  # of nothing that is known: they all end

    async def _settle(self) -> None:
        """Reads positions until every partition is consumed, however long a server is away."""
        attempt = 0
        while self._pending or self._refused:
            try:
                if self._pending or await self._is_accepted():
                    async with self.work:  # the batch in flight ends first
                        await self._establish()
                attempt, pause = 0, RECHECK_SECONDS
            except (Unavailable, KafkaError, OSError) as error:
                log.warning("positions_wait", service=self._service, error=str(error) or repr(error))
                pause = min(FIRST_BACKOFF_SECONDS * 2**attempt, LONGEST_BACKOFF_SECONDS)
                attempt += 1
            except Exception:  # a bug must not leave partitions paused for ever
                log.exception("positions_failed", service=self._service)
                pause = LONGEST_BACKOFF_SECONDS
            if self._pending or self._refused:
                await asyncio.sleep(pause)

    async def _is_accepted(self) -> bool:
        """Tells whether an operator has accepted a loss meanwhile."""
        stored = await self._store.load()
        return any(partition not in stored or stored[partition].refused is None for partition in self._refused)

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
        # Others may work meanwhile. Offsets are committed after positions are stored, and positions
        # lie within the log: in this order each is at most the next, unless a server is older
        partitions = self._pending | self._refused.keys()
        committed = await self._read_each(partitions, partial(_committed, consumer))
        stored = await self._store.load()
        bounds = await self._read_each(committed, partial(_bounds, consumer))
        logs = {partition: PartitionLog(*bounds[partition], committed[partition]) for partition in bounds}
        stored |= await self._added(
            {partition: partition_log.begin for partition, partition_log in logs.items() if partition not in stored}, cluster
        )
        starts = await self._judged(logs, stored, cluster)
        if starts:
            await asyncio.sleep(self._store.seconds_since_older(IN_FLIGHT_SECONDS))
            await self._preparation.catch_up()
            await self._start(consumer, starts, checked_at)

    async def _read_each(
        self, partitions: Iterable[TopicPartition], read: Callable[[TopicPartition], Awaitable[T]]
    ) -> dict[TopicPartition, T]:
        """Reads something of each partition from Kafka.

        A partition without a leader is left out: it is tried again.
        """
        ordered = sorted(partitions)
        found = await asyncio.gather(*map(read, ordered), return_exceptions=True)
        answers: dict[TopicPartition, T] = {}
        for partition, answer in zip(ordered, found, strict=True):
            if not isinstance(answer, BaseException):
                answers[partition] = answer
            elif isinstance(answer, KafkaError | OSError):
                log.warning("partition_unread", service=self._service, partition=str(partition), error=repr(answer))
            else:
                raise answer
        return answers

    async def _added(self, begins: dict[TopicPartition, int], cluster: str) -> dict[TopicPartition, StoredPosition]:
        """Stores missing positions: they start at the log's begin."""
        if not begins:
            return {}
        await self._store.add(begins, cluster)
        stored = await self._store.load()
        return {partition: stored[partition] for partition in begins}

    async def _take_over(self, consumer: AIOKafkaConsumer, cluster: str) -> None:
        """Stores the offsets that the group has committed in all partitions of all its topics."""
        numbers = {topic: consumer.partitions_for_topic(topic) or set() for topic in consumer.subscription()}
        partitions = {TopicPartition(topic, number) for topic, ids in numbers.items() for number in ids}
        committed = await self._read_each(partitions, partial(_committed, consumer))
        bounds = await self._read_each(partitions, partial(_bounds, consumer))
        if not committed.keys() == bounds.keys() == partitions:
            raise BrokerUnavailable("some partition has no leader: its offset can't be taken over")
        begins = {partition: begin for partition, (begin, _) in bounds.items()}
        offsets = begins | {partition: offset for partition, offset in committed.items() if offset is not None}
        offsets |= await self._preparation.taken_over()
        await self._store.add(offsets, cluster, takes_over=True)
        log.info("positions_taken_over", service=self._service, partitions=len(offsets))

    async def _judged(
        self,
        logs: Mapping[TopicPartition, PartitionLog],
        stored: Mapping[TopicPartition, StoredPosition],
        cluster: str,
    ) -> dict[TopicPartition, Start]:
        starts: dict[TopicPartition, Start] = {}
        refused = {partition: refusal for partition, refusal in self._refused.items() if partition not in logs}
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
                log.warning("postgres_is_older", service=self._service, partition=str(partition), **verdict._asdict())
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
        where = {"partition": str(partition), "stored": position.next_offset}
        clusters = {"cluster_id": position.cluster_id}
        fields = {**where, **clusters, **partition_log._asdict()}
        log.critical("position_refused", service=self._service, refusal=refusal, **fields, next=NEXT_STEP)
        await self._store.refuse(partition, refusal)

    async def _note_replay(self, partition: TopicPartition, position: StoredPosition, start: Start, end: int) -> None:
        """Notes until where records are processed a second time: no further than the log goes."""
        until = max(start.replay_until or 0, min(position.replay_until or 0, end))
        if until != (position.replay_until or 0):
            await self._store.replay(partition, until)
        if until > start.offset:
            self._replays[partition] = until

    async def _start(self, consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, Start], checked_at: float) -> None:
        lowered = {partition: start.offset for partition, start in starts.items() if start.replay_until is not None}
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
    """Reads where a partition begins and ends."""
    async with asyncio.timeout(KAFKA_SECONDS):
        begins = await consumer.beginning_offsets([partition])
        ends = await consumer.end_offsets([partition])
    return begins[partition], ends[partition]
