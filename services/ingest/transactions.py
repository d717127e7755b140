"""One Kafka transaction an import, over a pool of transactional producers, with aiokafka's traps stepped around.

- A batch that fails for good fails only its futures, and commit_transaction() still returns: all futures are awaited first.
- After any failure a producer's sequence numbers are off: it is thrown away, and a new one takes its transactional id, which also
  makes the coordinator abort whatever the old one left open.
- With the broker away neither a produce nor an abort in a transaction ever times out: each runs in a task of its own, with a deadline.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata

from services.ingest.config import IngestSettings
from services.ingest.service import Records
from services.ingest.unsettled import Position
from shared.errors import AcceptanceUnknown, BrokerUnavailable
from shared.messaging.connection import client_options, is_producer_dead
from shared.messaging.records import MAX_BATCH_BYTES, Record, append_records, discard, partition_count, partition_of
from shared.topics import LARGEST_RECORD, TopicName, TopicNames

log = structlog.get_logger()

T = TypeVar("T")

RENEWAL_SECONDS = 5.0
RENEWAL_PAUSE_SECONDS = 0.2
FAILURE_PAUSE_SECONDS = 2.0
"""After an error that nobody foresaw: each try logs its traceback."""


@dataclass(slots=True)
class _Slot:
    """A transactional id, stable across restarts of this replica: a new process fences what the old one left."""

    transactional_id: str
    producer: AIOKafkaProducer | None = None


@dataclass(slots=True)
class _Attempt:
    committing: bool = False
    abandoned: bool = False

    def begin_commit(self) -> None:
        if self.abandoned:
            raise asyncio.CancelledError
        self.committing = True


class TransactionPool:
    """Commits record sets atomically. Heals by itself when Kafka comes back."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._names = TopicNames(settings.topic_prefix)
        prefix = f"{settings.topic_prefix}-ingest-{settings.replica}"
        self._slots = [_Slot(f"{prefix}-{number}") for number in range(settings.transactional_producers)]
        self._free: asyncio.Queue[_Slot] = asyncio.Queue()
        self._running: set[asyncio.Task[Position | None]] = set()
        self._renewing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns when the first producer is ready; the others follow."""
        for slot in self._slots:
            _spawn(self._renewing, self._renew(slot))
        self._free.put_nowait(await self._free.get())

    async def stop(self) -> None:
        """Let commits under way end, within their deadline; then nothing is left running, and nothing begins any more."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.commit_deadline_seconds)
        while tasks := [*self._running, *self._renewing]:  # again: a transaction that is cancelled has its slot renewed
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        while not self._free.empty():
            self._free.get_nowait()
        await asyncio.gather(*(_drop(slot) for slot in self._slots))

    def trouble(self) -> str | None:
        return None if self._running or not self._free.empty() else "no transactional producer works"

    async def commit(self, records: Records, started: float | None = None) -> Position | None:
        """Write all of `records`, which share one key, in one transaction. Returns where its rows end, if it has any.

        Raises BrokerUnavailable when it is certain that nothing was committed, within broker_deadline_seconds; AcceptanceUnknown when
        the commit was asked for and no answer came, within commit_deadline_seconds: then nothing stands, or all. Both count from
        `started`, in the event loop's time, if it is given.
        """
        loop = asyncio.get_running_loop()
        started = loop.time() if started is None else started
        while True:
            slot = await self._take(started + self._settings.broker_deadline_seconds - loop.time())
            attempt = _Attempt()
            # A task of its own: neither a client that goes away nor a deadline may stop it between records and commit
            task = _spawn(self._running, self._transact(slot, records, attempt))
            try:
                return await self._finish(task, attempt, started)
            except MessageSizeTooLargeError:
                raise  # a bug: rows and outcomes are cut to fit; no retry makes them smaller
            except KafkaError as error:
                log.warning("transaction_failed", transactional_id=slot.transactional_id, error=repr(error))
                if attempt.committing:
                    raise AcceptanceUnknown(repr(error)) from error
                if loop.time() > started + self._settings.broker_deadline_seconds:
                    raise BrokerUnavailable(repr(error)) from error

    async def _take(self, seconds: float) -> _Slot:
        if seconds <= 0:  # a slot would still be had, and its producer thrown away with the transaction that can't end in time
            raise BrokerUnavailable("no time is left for a transaction")
        try:
            async with asyncio.timeout(seconds):
                while is_producer_dead((slot := await self._free.get()).producer):
                    log.error("producer_replaced", transactional_id=slot.transactional_id, died=True)
                    _spawn(self._renewing, self._renew(slot))
                return slot
        except TimeoutError:
            raise BrokerUnavailable("no transactional producer is free") from None

    async def _finish(self, task: "asyncio.Task[T]", attempt: _Attempt, started: float) -> T:
        await self._until(task, started + self._settings.broker_deadline_seconds)
        if not task.done() and attempt.committing:
            await self._until(task, started + self._settings.commit_deadline_seconds)
        if task.done():
            return task.result()
        if attempt.committing:
            task.cancel()
            raise AcceptanceUnknown("Kafka did not answer the commit")
        attempt.abandoned = True  # the same event loop: from here on the task can't begin the commit
        task.cancel()
        raise BrokerUnavailable("Kafka did not take the records in time")

    async def _until(self, task: "asyncio.Task[T]", deadline: float) -> None:
        await asyncio.wait({task}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))

    async def _transact(self, slot: _Slot, records: Records, attempt: _Attempt) -> Position | None:
        producer = slot.producer
        if producer is None:
            raise AssertionError("a free slot has a producer")
        try:
            await producer.begin_transaction()
            futures = {name: await self._append(producer, name, group) for name, group in records.items() if group}
            await asyncio.gather(*chain.from_iterable(futures.values()))
            attempt.begin_commit()
            await producer.commit_transaction()
        except BaseException:  # a cancellation too: whatever ended it, the producer can't be used again. Who asked logs it
            _spawn(self._renewing, self._renew(slot))
            raise
        self._free.put_nowait(slot)
        return _end_of([batch.result() for batch in futures.get(TopicName.ROWS, ())], len(records.get(TopicName.ROWS, ())))

    async def _append(self, producer: AIOKafkaProducer, name: TopicName, group: Sequence[Record]) -> "list[asyncio.Future[RecordMetadata]]":
        topic = self._names[name]
        partition = partition_of(group[0].key or b"", await partition_count(producer, topic))
        return await append_records(producer, topic, partition, group)

    async def _renew(self, slot: _Slot) -> None:
        """Give the slot a producer that works, however long Kafka is away; then it is free."""
        while True:
            try:
                await _drop(slot)
                slot.producer = self._new_producer(slot.transactional_id)
                async with asyncio.timeout(RENEWAL_SECONDS):
                    await slot.producer.start()
                    # Waits for the producer id, which fences a predecessor; nothing is sent for an empty transaction
                    await slot.producer.begin_transaction()
                    await slot.producer.abort_transaction()
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning("producer_waits", transactional_id=slot.transactional_id, error=repr(error))
                await asyncio.sleep(RENEWAL_PAUSE_SECONDS)
            except Exception:  # a bug, aiokafka's or ours; but a slot that nobody renews would be lost for good
                log.exception("producer_failed", transactional_id=slot.transactional_id)
                await asyncio.sleep(FAILURE_PAUSE_SECONDS)
            else:
                self._free.put_nowait(slot)
                return

    def _new_producer(self, transactional_id: str) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **client_options(self._settings, client_id=f"pinflow-{transactional_id}"),
            transactional_id=transactional_id,
            transaction_timeout_ms=self._settings.transaction_timeout_ms,
            acks="all",
            compression_type="snappy",  # an import's rows are alike: a sixth of the size, for 0.15 µs a row (docs/decisions/0011)
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=LARGEST_RECORD,
        )


def _end_of(batches: Sequence[RecordMetadata], rows: int) -> Position | None:
    """Behind the last of the rows. They are one batch nearly always; between several, another import's may stand."""
    if not batches:
        return None
    return Position(batches[0].partition, max(batches[0].offset + rows, batches[-1].offset + 1))


def _spawn(tasks: "set[asyncio.Task[T]]", work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def _drop(slot: _Slot) -> None:
    producer = slot.producer
    if producer is None:
        return
    await discard(producer)
    slot.producer = None  # only now: a drop that is cancelled half way is done again by stop()
