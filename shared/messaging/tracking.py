"""Keeps a consumer's positions: reads them before it starts, and again when Postgres may be older.

Postgres holds the positions and Kafka the log. Either may have been replaced by an older copy while
nobody looked. So partitions stay paused until both have been read and compared (ADR 0030).
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared import metrics
from shared.errors import Unavailable
from shared.messaging.admin import cluster_id
from shared.messaging.position_store import PositionStore
from shared.messaging.positions import (
    Advance,
    PartitionLog,
    Refusal,
    Span,
    Start,
    StoredPosition,
    judge,
)
from shared.messaging.records import SEND_TIMEOUT_SECONDS
from shared.settings import KafkaSettings

log = structlog.get_logger()

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
RECHECK_SECONDS = 2.0
"""How often a refused partition is looked at again: an operator may have accepted the loss."""
KAFKA_SECONDS = 10.0
"""How long one look at a partition in Kafka may take."""
IN_FLIGHT_SECONDS = SEND_TIMEOUT_SECONDS
"""How long outcomes may still come from another publisher that had its batch in the lost Postgres.
Replaying waits for so long if this process was running when Postgres was replaced."""

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
        spans = {one: Span(self._known[one], end) for one, end in offsets.items()}
        return Advance(spans, self._checked_at)

    async def store(self, advance: Advance) -> None:
        """Moves a advance's positions if its work has not. Raises DatabaseUnavailable, PositionBehind."""
        if not advance.is_stored:
            await self._store.move(advance)

    def done(self, advance: Advance) -> None:
        """Notes that a advance's work is finished: the next batch starts behind it."""
        self._known |= {one: span.end for one, span in advance.spans.items() if one in self._known}

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
            names = ", ".join(f"{one.topic}/{one.partition} ({refusal})" for one, refusal in sorted(self._refused.items()))
            return f"positions do not fit Kafka's log: {names}. See what is lost with: {NEXT_STEP}"
        return "reading positions" if self._pending else None

    # What is done every 2 seconds

    async def look(self, processed: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Stores how far partitions are that had nothing for this consumer; `work` must be held.

        Returns the offsets. Also finds out whether Postgres has been replaced: then it raises
        PositionBehind, or DatabaseUnavailable.
        """
        advance = self.advance({one: max(end, self._known[one]) for one, end in processed.items() if one in self._known})
        if advance is None or not advance.spans:
            return {}
        await self._store.move(advance)
        await self._preparation.move_along()
        self.done(advance)
        self._show_replays()
        return advance.offsets()

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
        return any(one not in stored or stored[one].refused is None for one in self._refused)

    async def _establish(self) -> None:
        """Starts each partition whose position is known and fits the log."""
        consumer = self._consumer()
        if consumer is None:
            return
        await self._store.warm()
        checked_at = time.monotonic()
        # An accepted loss is no surprise: nobody had its batch in another Postgres
        is_surprise = self._checked_at > 0 and bool(self._pending)
        cluster = await cluster_id(self._settings)
        partitions = self._pending | self._refused.keys()
        logs = await self._read_logs(consumer, partitions)
        stored = await self._stored(consumer, logs, cluster)
        starts = await self._judged(logs, stored, cluster)
        if is_surprise and any(start.replay_until is not None for start in starts.values()):
            await asyncio.sleep(IN_FLIGHT_SECONDS)
        if starts:
            await self._preparation.catch_up()
        await self._start(consumer, starts, checked_at)

    async def _read_logs(self, consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> dict[TopicPartition, PartitionLog]:
        """Reads what Kafka tells. A partition without a leader is left out: it is tried again."""
        ordered = sorted(partitions)
        found = await asyncio.gather(*(_read_log(consumer, one) for one in ordered), return_exceptions=True)
        logs: dict[TopicPartition, PartitionLog] = {}
        for partition, one in zip(ordered, found, strict=True):
            if isinstance(one, PartitionLog):
                logs[partition] = one
            elif isinstance(one, KafkaError | OSError):
                log.warning("partition_unread", service=self._service, partition=str(partition), error=repr(one))
            else:
                raise one
        return logs

    async def _stored(
        self, consumer: AIOKafkaConsumer, logs: Mapping[TopicPartition, PartitionLog], cluster: str
    ) -> dict[TopicPartition, StoredPosition]:
        if await self._store.is_seeded():
            await self._take_over(consumer, cluster)
        stored = await self._store.load()
        missing = {one: logs[one].begin for one in logs if one not in stored}
        if missing:
            await self._store.add(missing, cluster)
            stored = await self._store.load()
        return stored

    async def _take_over(self, consumer: AIOKafkaConsumer, cluster: str) -> None:
        """Stores the offsets that the group has committed in all partitions of all its topics."""
        numbers = {topic: consumer.partitions_for_topic(topic) or set() for topic in consumer.subscription()}
        partitions = {TopicPartition(topic, number) for topic, some in numbers.items() for number in some}
        found = await asyncio.gather(*(_read_log(consumer, one) for one in sorted(partitions)))
        offsets = {
            one: told.begin if told.committed is None else told.committed for one, told in zip(sorted(partitions), found, strict=True)
        }
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
        refused = {one: refusal for one, refusal in self._refused.items() if one not in logs}
        for partition, told in logs.items():
            position = stored[partition]
            verdict = judge(position, told, cluster)
            if isinstance(verdict, Refusal):
                refused[partition] = verdict
                if position.refused is None:
                    where = {"partition": str(partition), "stored": position.next_offset, "cluster_id": position.cluster_id}
                    log.critical("position_refused", service=self._service, refusal=verdict, **where, **told._asdict(), next=NEXT_STEP)
                    await self._store.refuse(partition, verdict)
                continue
            starts[partition] = verdict
            if verdict.replay_until is not None:
                log.warning("postgres_is_older", service=self._service, partition=str(partition), **verdict._asdict())
                metrics.REPLAYS.labels(self._service).inc()
                await self._store.replay(partition, verdict.replay_until)
            if (until := max(verdict.replay_until or 0, position.replay_until or 0)) > verdict.offset:
                self._replays[partition] = until
        self._pending -= refused.keys()
        self._show_refusals(refused)
        return starts

    async def _start(self, consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, Start], checked_at: float) -> None:
        lowered = {one: start.offset for one, start in starts.items() if start.replay_until is not None}
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
        for one, refusal in self._refused.items() - refused.items():
            gauge.labels(self._service, one.topic, one.partition, refusal).set(0)
        for one, refusal in refused.items():
            gauge.labels(self._service, one.topic, one.partition, refusal).set(1)
        self._refused = refused

    def _show_replays(self) -> None:
        gauge = metrics.REPLAY_RECORDS
        for one, until in list(self._replays.items()):
            left = max(0, until - self._known[one]) if one in self._known else 0
            gauge.labels(self._service, one.topic, one.partition).set(left)
            if not left:
                del self._replays[one]


async def _read_log(consumer: AIOKafkaConsumer, partition: TopicPartition) -> PartitionLog:
    async with asyncio.timeout(KAFKA_SECONDS):
        committed, begins, ends = await asyncio.gather(
            consumer.committed(partition),
            consumer.beginning_offsets([partition]),
            consumer.end_offsets([partition]),
        )
    return PartitionLog(begins[partition], ends[partition], committed)
