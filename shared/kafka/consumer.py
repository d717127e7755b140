"""The safe batch consumer: the only place that decides what a failure means for a batch.

FastStream takes the batches; everything that could lose one is decided here. Under any policy but
this a handler that raises loses its batch or spins (docs: kafka.md): so the handler never raises,
acknowledges by hand after the work is durable, and rewinds by hand when it is not.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiolimiter import AsyncLimiter
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage

from shared.contract.errors import BrokerUnavailable, Overloaded, PositionBehind, Unavailable
from shared.contract.topics import TOPICS, TopicName, TopicNames
from shared.kafka.admin import require_topics
from shared.kafka.connection import is_consumer_dead, unavailable
from shared.kafka.dead_letters import DeadLetter, to_record
from shared.kafka.dormancy import Dormancy, always
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.store import PositionStore
from shared.kafka.positions.tracker import PositionTracker, Preparation
from shared.kafka.producer import RecordSender
from shared.kafka.progress import Progress, ends_of, first_offsets
from shared.kafka.skipping import RecordFilter
from shared.kafka.stalls import STALLED_AFTER, Stalls
from shared.runtime import metrics
from shared.runtime.chunks import chunked
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

Decoded = TypeVar("Decoded")
_timestamp = attrgetter("timestamp")
Batch = Sequence["ConsumerRecord[bytes, bytes]"]
Fetch = Callable[[AIOKafkaConsumer], Awaitable[tuple["ConsumerRecord[bytes, bytes]", ...]]]

SESSION_TIMEOUT_MS = 30_000
REVOCATION_TIMEOUT_SECONDS = 25.0
"""How long a rebalance waits for the batch in flight.

Below the rebalance timeout, or the member is thrown out.
"""
STALLED_AFTER_SECONDS = 30.0
COMMIT_SECONDS = 20.0
WATCH_SECONDS = 10.0
PULSE_SECONDS = 1.0
"""How often `watch` checks that the client lives and that each partition moves.
WATCH_SECONDS: how often it checks that Kafka answers fetches."""
LOOK_SECONDS = 2.0
"""How often a consumer compares its positions with the stored ones, and stores processed offsets of
partitions without batches."""
MOST_SILENCES = 3
"""A consumer that stands still so many looks in a row, Kafka answering each time, is lost."""
DECODED_AT_ONCE = 1024 * 1024
"""Bytes of values after which others get a turn: 4 ms of outcomes (15 ms by pydantic). A batch can
be 50 times that.
"""
FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 10.0
LONGEST_WAIT_FOR_ROOM_SECONDS = 5.0


class Gathering(NamedTuple):
    """How long Kafka holds a fetch back, so that more comes together: until there are so many
    bytes, for a while at most.

    `partition_bytes`: of one partition at once; None for its largest record. One with much to come
    waits while those that have nothing are held back: aiokafka asks a broker for one thing at a
    time. So it gets no more than this in each `wait_ms`.
    """

    min_bytes: int = 1
    wait_ms: int = 500
    partition_bytes: int | None = None


AT_ONCE = Gathering()


class BatchHandler(Protocol[Decoded]):
    """What a service does with a batch, in two steps so that a flood of poison is seen before
    anything is settled.
    """

    def decode(self, records: Batch) -> tuple[list[Decoded], list[DeadLetter]]:
        """Parse all; what can't be parsed is poison.

        Neither waits nor writes. A large batch comes in portions, one call each.
        """

    async def process(
        self, decoded: list[Decoded], poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        """Makes the whole batch durable, idempotently. Returns the poison found on the way.

        Every transaction holds the advance. A single transaction may also move the positions, and
        then sets `advance.is_stored`. Raises Unavailable to try again.
        """


class Halted(Exception):
    """Everything is poison: a bad deployment is likelier than a thousand bad records.

    Nothing is settled or given up.
    """


class ConsumerLost(Exception):
    """This consumer can't go on: only a new process, which begins at the committed offsets, is sure
    to skip nothing.
    """


class BatchConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One subscriber of one service: batches, backoff, dead letters, revocation that waits, and its
    health.
    """

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        topics: Sequence[TopicName],
        handler: BatchHandler[Any],
        producer: RecordSender,
        *,
        max_records: int | None = None,
        member: int = 0,
        pace: AsyncLimiter | None = None,
        gathering: Gathering = AT_ONCE,
        is_wanted: Callable[[], Awaitable[bool]] = always,
        record_filter: RecordFilter | None = None,
        positions: PositionStore | None = None,
        preparation: Preparation | None = None,
        stalled_after: float = STALLED_AFTER,
    ) -> None:
        """`member` tells consumers of one group in one process apart. `pace`: how often batches
        begin; without, whenever they can. `record_filter` says which records of one topic this
        consumer gets to see.

        `positions` stores this consumer's positions; without it, they are only in Kafka.
        `preparation` is the service's own work before partitions start. `is_wanted`: whether
        anybody wants records, for `dormancy`, which somebody has to let look. `stalled_after`:
        seconds from which a partition that stands still is trouble. Raises ValueError for a filter
        on topics read committed: it would pass aborted records on.
        """
        self.name = name
        self.names = TopicNames(settings.topic_prefix)
        self.group = self.names.group(name)
        suffix = f".{member}" if member else ""
        # The assignor deals partitions out in the order of these ids: to each process' first
        # member, then to each one's second (docs/decisions/0019). The dot is in no replica's name:
        # no two members can have one id
        self.group_instance_id = f"{self.group}{suffix}-{settings.replica}"
        self.title = f"{name}{suffix}"
        self._settings = settings
        self._topics = [self.names[topic] for topic in topics]
        self._fetch_bytes = max(topic.fetch_bytes for topic in TOPICS if topic.name in topics)
        # An upstream system may produce in transactions. Pinflow itself does not
        self._isolation: Literal["read_committed", "read_uncommitted"] = (
            "read_committed" if TopicName.IMPORT_REQUESTS in topics else "read_uncommitted"
        )
        if record_filter is not None and self._isolation == "read_committed":
            raise ValueError(f"{name}: topics that are read committed can't have a record filter")
        self._filter = record_filter
        self._handler = handler
        self._max_records = max_records or settings.consumer_max_records
        self._producer = producer
        self._pace = pace
        self._gathering = gathering
        self._idle = asyncio.Event()
        self._idle.set()
        self._interrupted = asyncio.Event()
        self._lost = asyncio.Event()
        self._reason = ""
        self._attempt = 0
        self._poison_in_a_row = 0
        self._commits_unanswered = 0
        self._halted = False
        self._is_full = False
        self._oldest: float | None = None
        self._ready_since: float | None = None
        self._unready_since = time.time()
        self._subscriber: Any = None
        self.progress = Progress(self._consumer)
        self._tracker = (
            PositionTracker(
                positions, settings, service=name, consumer=self._consumer, preparation=preparation
            )
            if positions is not None
            else None
        )
        self.dormancy = Dormancy(self._consumer, is_wanted, self._forget_troubles, self._tracker)
        self._reading = 0
        self._committed_idle: dict[TopicPartition, int] = {}
        self._stalls = Stalls(after=stalled_after)
        self._gauged: set[TopicPartition] = set()
        metrics.BATCH_RETRIES.labels(
            name
            # From the start: the first increase of a counter that was not there is none to
            # Prometheus
        )
        self._halted_gauge = metrics.CONSUMER_HALTED.labels(name, member)
        metrics.OLDEST_UNPROCESSED_SECONDS.labels(name, member).set_function(
            self.oldest_unprocessed_seconds
        )

    def _consumer(self) -> AIOKafkaConsumer | None:
        return self._subscriber.consumer if self._subscriber else None

    def subscribe(self, broker: KafkaBroker) -> None:
        """Subscribes with delivery at least once: committed by hand after the work, one static
        member.

        Starts at the stored positions if the consumer has a store for them. Otherwise starts at
        the committed offsets or the earliest. Reads uncommitted, except `import-requests`, which is
        read committed.
        """
        self._subscriber = broker.subscriber(
            *self._topics,
            batch=True,
            group_id=self.group,
            group_instance_id=self.group_instance_id,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest" if self._tracker is None else "none",
            isolation_level=self._isolation,
            max_records=self._max_records,
            # No linger but a sleep after an empty poll: with the default p99 is 207 instead of 35
            # ms
            batch_timeout_ms=10**10,
            max_partition_fetch_bytes=self._gathering.partition_bytes or self._fetch_bytes,
            fetch_min_bytes=self._gathering.min_bytes,
            fetch_max_wait_ms=self._gathering.wait_ms,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            rebalance_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=3000,
            value_deserializer=self._filter,
            listener=self,
            parser=self._parse,
            decoder=_records_of,
        )
        self._subscriber(self._on_batch)
        self._subscriber.get_msg = self._fetching(self._subscriber.get_msg)

    def _fetching(self, fetch: Fetch) -> Fetch:
        was_full = False

        async def fetch_or_stop(
            consumer: AIOKafkaConsumer,
        ) -> tuple["ConsumerRecord[bytes, bytes]", ...]:
            nonlocal was_full
            if (
                self._pace is not None and not was_full
            ):  # behind a full one the next is there, and no larger for waiting
                await self._pace.acquire()
            try:
                records = await fetch(consumer)
            except ConsumerStoppedError:  # closed by ourselves
                raise
            except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
                # aiokafka raises these before it takes records of any partition: none is dropped
                if self._tracker is None:
                    raise
                self._tracker.restart(repr(error))
                return ()
            except Exception as error:
                # A record that can't be unpacked, a topic that may not be read. What was taken from
                # other partitions before it was raised has been dropped, and FastStream would go
                # on: the next commit would skip it. Not only Kafka's errors: a decompressor has its
                # own
                log.critical("fetch_failed", consumer=self.title, exc_info=error)
                self._give_up_this_process(repr(error))
                raise ConsumerStoppedError from error
            was_full = len(records) >= self._max_records
            self._reading = self._tracker.reading if self._tracker is not None else 0
            self.progress.takes(records)
            return records

        return fetch_or_stop

    async def _parse(
        self, records: tuple["ConsumerRecord[bytes, bytes]", ...]
    ) -> KafkaAckableMessage:
        # FastStream's own parser decodes every header as UTF-8: one bad byte there would stop the
        # partition for ever
        return KafkaAckableMessage(
            body=b"", raw_message=records, consumer=self._subscriber.consumer
        )

    async def _on_batch(self, records: Batch) -> None:
        started = time.monotonic()
        self._idle.clear()
        self._oldest = min(map(_timestamp, records)) / 1000
        try:
            async with self._advancing(records) as advance:
                if advance is None:
                    return
                await self._work(records, advance)
        except PositionBehind as error:
            self._read_positions_again(str(error))
        except Exception as error:  # noqa: BLE001 - the vocabulary's one reader: nothing may leave it
            await self._put_back(records, error)
        else:
            self._attempt = 0
            self._is_full = False
            self.progress.puts_down()
            metrics.BATCH_RECORDS.labels(self.name).observe(len(records))
            metrics.BATCH_SECONDS.labels(self.name).observe(time.monotonic() - started)
        finally:
            self._oldest = None
            self._idle.set()

    @asynccontextmanager
    async def _advancing(self, records: Batch) -> AsyncIterator[Advance | None]:
        """Yields the batch's advance. Afterwards stores and commits its end.

        Yields None if positions are being read or have been read since the fetch: the batch comes
        again.
        """
        if self._tracker is None:
            yield Advance()
            await self._commit()
            return
        async with self._tracker.work:
            advance = self._tracker.advance(ends_of(records), self._reading)
            yield advance
            if advance is None:
                self._rewind(records)
                return
            await self._tracker.store(advance)
            await self._commit(advance.offsets())
            self._tracker.finish(advance)

    def _read_positions_again(self, reason: str) -> None:
        self.progress.puts_down()
        if self._tracker is not None:
            self._tracker.restart(reason)

    async def _work(self, records: Batch, advance: Advance) -> None:
        decoded, poison = await self._decode(records)
        self._halt_when_all_is_poison(len(records), len(poison))
        poison = [*poison, *await self._handler.process(decoded, poison, advance)]
        in_a_row = self._halt_when_all_is_poison(len(records), len(poison))
        if poison:
            await self._give_up(poison)
        self._poison_in_a_row = in_a_row
        self._set_halted(halted=False)

    async def _decode(self, records: Batch) -> tuple[list[Any], list[DeadLetter]]:
        decoded, poison = [], []
        for portion in chunked(records, DECODED_AT_ONCE, _size):
            good, bad = self._handler.decode(portion)
            decoded += good
            poison += bad
            await asyncio.sleep(0)  # no pause: HTTP and heartbeats get their turn
        return decoded, poison

    def _halt_when_all_is_poison(self, records: int, poison: int) -> int:
        """How many in a row there are with this batch; it counts when it is through, however often
        it is tried. Raises Halted.
        """
        if poison < records:
            return 0
        in_a_row = self._poison_in_a_row + poison
        if in_a_row > self._settings.consumer_poison_limit:
            raise Halted(f"{in_a_row} records in a row are poison")
        return in_a_row

    async def _give_up(self, letters: Sequence[DeadLetter]) -> None:
        records = [to_record(letter, service=self.name) for letter in letters]
        await self._producer.send(self.names[TopicName.DEAD_LETTERS], records)
        for letter in letters:
            where = {
                "topic": letter.record.topic,
                "partition": letter.record.partition,
                "offset": letter.record.offset,
            }
            log.error(
                "dead_letter", **where, code=letter.reason.code, message=letter.reason.message
            )
            metrics.DEAD_LETTERS.labels(self.name, letter.record.topic, letter.reason.code).inc()

    async def _commit(self, offsets: dict[TopicPartition, int] | None = None) -> None:
        """Commits these offsets. Without them, commits all positions of aiokafka's consumer."""
        try:
            async with asyncio.timeout(COMMIT_SECONDS):  # aiokafka would try for ever
                await self._subscriber.consumer.commit(offsets)
        except TimeoutError as error:
            self._commits_unanswered += 1
            raise BrokerUnavailable(
                f"no answer to the commit within {COMMIT_SECONDS:g} s"
            ) from error
        except (CommitFailedError, IllegalStateError) as error:
            # The partitions have gone to another member, which gets the batch again: it is
            # idempotent
            log.warning("commit_refused", consumer=self.title, error=repr(error))
        except KafkaError as error:
            raise unavailable(error) or error from error
        self._commits_unanswered = 0

    async def _put_back(self, records: Batch, error: Exception) -> None:
        if isinstance(error, Overloaded):
            await self._wait_for_room(error)
        else:
            await self._wait_after(error)
        self._rewind(records)

    async def _wait_after(self, error: Exception) -> None:
        self._is_full = False
        metrics.BATCH_RETRIES.labels(self.name).inc()
        if isinstance(error, Unavailable):
            log.warning("batch_waits", consumer=self.title, attempt=self._attempt, error=str(error))
        elif isinstance(error, Halted):
            self._set_halted(halted=True)
            log.critical(
                "consumer_halted",
                consumer=self.title,
                error=str(error),
                next="mend, or raise the limit; nothing is lost",
            )
        else:
            log.error("batch_failed", consumer=self.title, attempt=self._attempt, exc_info=error)
        seconds = min(FIRST_BACKOFF_SECONDS * 2**self._attempt, LONGEST_BACKOFF_SECONDS)
        self._attempt += 1
        await self._back_off(seconds)

    async def _wait_for_room(self, overloaded: Overloaded) -> None:
        # No fault, and it may last: said once, counted by whoever has no room, nothing for
        # readiness
        if not self._is_full:
            log.info("batch_waits_for_room", consumer=self.title, **overloaded.details)
        self._stalls.excuse()
        self._is_full = True
        self._attempt = 0
        await self._back_off(min(overloaded.retry_after, LONGEST_WAIT_FOR_ROOM_SECONDS))

    def _forget_troubles(self) -> None:
        # No batch comes while records are skipped, and so none that would say that all is well
        # again
        self._attempt = self._commits_unanswered = 0
        self._set_halted(halted=False)

    def _set_halted(self, *, halted: bool) -> None:
        self._halted = halted
        self._halted_gauge.set(halted)

    async def _back_off(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 1)):  # noqa: S311 - jitter
                await self._interrupted.wait()
        except TimeoutError:
            return

    def _rewind(self, records: Batch) -> None:
        # message.nack() stops at the first partition that a rebalance took, and would skip the
        # records of the others
        self.progress.puts_down()
        first = first_offsets(records)
        if self._tracker is not None:
            self._tracker.rewind(first)
            return
        consumer = self._consumer()
        if consumer is None:
            return
        assigned = consumer.assignment()
        for partition, offset in first.items():
            if partition in assigned:
                consumer.seek(partition, offset)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """aiokafka does not wait for the handler; a batch that ends after another member began it
        would be work done twice.
        """
        self._ready_since = None
        self._unready_since = time.time()
        self._interrupted.set()
        if self._tracker is not None:
            self._tracker.revoke()
        try:
            async with asyncio.timeout(REVOCATION_TIMEOUT_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("revoked_in_flight", consumer=self.title, partitions=len(revoked))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Starts the partitions. With stored positions, starts each when its position is known."""
        if self._tracker is not None:
            self._tracker.assign(assigned)  # before the first await, or aiokafka fetches
        self._interrupted.clear()
        self._ready_since = time.time()
        log.info(
            "partitions_assigned",
            consumer=self.title,
            partitions=sorted(f"{p.topic}/{p.partition}" for p in assigned),
        )

    async def watch(self) -> None:
        """Runs as long as the consumer can.

        Raises ConsumerLost: a fetch failed for good, or nothing comes although Kafka answers.
        """
        self._unready_since = time.time()
        silent = 0
        looking = asyncio.create_task(self._look_for_ever(), name=f"{self.title} positions")
        try:
            while not await self._is_lost_within(WATCH_SECONDS):
                silent = silent + 1 if self._stands_still() and await self._kafka_answers() else 0
                if silent >= MOST_SILENCES:
                    self._give_up_this_process("nothing comes although Kafka answers")
        finally:
            looking.cancel()
            self._show_stalls(set())
        raise ConsumerLost(f"{self.title}: {self._reason}")

    async def _look_for_stalls(self) -> None:
        self._stalls.observe(await self.progress.readings())
        consumer = self._consumer()
        self._show_stalls(consumer.assignment() if consumer else set())

    def _show_stalls(self, assigned: set[TopicPartition]) -> None:
        gauge = metrics.PARTITION_STALLED_SECONDS
        for partition in self._gauged - assigned:
            gauge.remove(self.name, partition.topic, partition.partition)
        for partition in assigned:
            labels = (self.name, partition.topic, partition.partition)
            gauge.labels(*labels).set(self._stalls.seconds(partition))
        self._gauged = set(assigned)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look_at_positions()
            except PositionBehind as error:
                self._read_positions_again(str(error))
            except (Unavailable, KafkaError, TimeoutError):
                continue  # the next look may succeed; batches log what is wrong
            except Exception as error:
                log.exception("look_failed", consumer=self.title, exc_info=error)

    async def _look_at_positions(self) -> None:
        """Stores and commits the processed offsets of partitions without batches.

        Records that the filter skips produce no batch, and so no commit. Neither do aborted
        transactions, which import-requests may have. Admission reads the publisher's lag from
        Kafka: without this commit it would count such records as backlog for ever.
        """
        if not self._idle.is_set():
            return
        if self._tracker is None:
            await self._commit_processed(await self.progress.processed())
            return
        async with self._tracker.work:
            processed = await self.progress.processed()
            if processed:
                await self._commit_processed(await self._tracker.store_processed(processed))
        await self._tracker.move_along()

    async def _commit_processed(self, processed: dict[TopicPartition, int]) -> None:
        if not processed or processed == self._committed_idle:
            # Nothing is its own, when others have taken all partitions: aiokafka refuses a commit
            # of nothing
            return
        async with asyncio.timeout(COMMIT_SECONDS):
            await self._subscriber.consumer.commit(processed)
        if self._idle.is_set():  # or a batch may have committed more in between
            self._committed_idle = processed

    async def _is_lost_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._lost.is_set() and time.monotonic() < deadline:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, PULSE_SECONDS)):
                    await self._lost.wait()
            if is_consumer_dead(self._consumer()):
                self._give_up_this_process("its Kafka client has died")
            else:
                await self._look_for_stalls()
        return self._lost.is_set()

    def _give_up_this_process(self, reason: str) -> None:
        self._reason = reason
        self._ready_since = None
        self._lost.set()

    def _stands_still(self) -> bool:
        if self._tracker is not None and self._tracker.is_waiting:
            return False  # all partitions are paused: for a server, or for an operator
        # Without partitions there is nothing to poll: only how long that has been so counts
        polled_at = max(self.progress.last_poll(), self.dormancy.asleep_until())
        moved_at = (
            self._unready_since if self._ready_since is None else max(self._ready_since, polled_at)
        )
        return self._commits_unanswered > 0 or (
            self._idle.is_set() and time.time() - moved_at > STALLED_AFTER_SECONDS
        )

    async def _kafka_answers(self) -> bool:
        try:
            await require_topics(self._settings)
        except (Unavailable, KafkaError, OSError):
            return False
        return True

    def interrupt(self) -> None:
        """Ends a backoff at once: the process stops. The batch stays uncommitted."""
        self._interrupted.set()
        if self._tracker is not None:
            self._tracker.stop()

    def oldest_unprocessed_seconds(self) -> float:
        return max(0.0, time.time() - self._oldest) if self._oldest is not None else 0.0

    def trouble(self) -> str | None:
        """Why this consumer does not do its work, or None. broker.ping would say nothing of it."""
        if self._halted:
            return "halted: everything is poison"
        if self._lost.is_set():
            return f"lost: {self._reason}"
        if self._ready_since is None:
            return "no partitions assigned yet"
        if self._tracker is not None and (trouble := self._tracker.trouble()) is not None:
            return trouble
        if self._attempt > 1:
            return "waiting for a server"
        stall = self._stalls.longest()
        return str(stall or "no answer to fetches") if stall or self._stands_still() else None


def _size(record: "ConsumerRecord[bytes, bytes]") -> int:
    return len(record.value or b"")


async def _records_of(message: KafkaAckableMessage) -> Batch:
    # Not the message itself, though acknowledging would be at hand then: FastStream keeps in it
    # what this returns, and in a cycle a batch's megabytes wait for the collector (measured: 80 MB
    # of them)
    records: Batch = message.raw_message
    return records
