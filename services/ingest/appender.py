"""Appends record batches to one partition and reports what each outcome proves.

A broker appends a record batch atomically: readers see all of its records or none. After an error
ingest must know two things that aiokafka's own producer hides: whether the batch was written to a
connection, and whether the broker refused it before it appended anything. That producer also
repeats a batch forever, long after the client was answered. So this module sends produce requests
itself, through aiokafka's client (ADR 0025).

Each partition has its own connection, producer id and sequence, so a fault of one partition does
not delay the others.
"""

import asyncio
import contextvars
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    NoError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownProducerId,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from services.ingest.batch_encoding import encode_batch
from shared.kafka.aiokafka_internals import (
    abort_connections,
    close_client,
    is_dead,
    load_metadata,
)
from shared.kafka.connection import client_options
from shared.kafka.records import Record
from shared.runtime.backoff import backoff
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

REQUEST_TIMEOUT_MS = 2500
"""Milliseconds that one request waits for its answer. Two attempts fit into an import's deadline,
so the second can go to a new leader.
"""
CONNECT_TIMEOUT_SECONDS = 5.0
BROKER_TIMEOUT_MS = 2000
"""Milliseconds that a broker waits for its followers. Must stay below REQUEST_TIMEOUT_MS."""
MIN_BACKOFF_SECONDS = 0.05
"""Seconds between two lookups of the leader, and before the first retry of an append. Kafka elects
a new leader within milliseconds once it knows that the old one is gone.
"""
MAX_BACKOFF_SECONDS = 0.5
"""Maximum seconds between two attempts. Each attempt sends the whole batch."""
MIN_RECONNECT_BACKOFF_SECONDS = 0.2
MAX_RECONNECT_BACKOFF_SECONDS = 1.0
UNEXPECTED_ERROR_BACKOFF_SECONDS = 2.0
"""Longer than the other backoffs because each attempt logs a traceback."""
MIN_THREAD_BATCH_BYTES = 1024 * 1024
"""Larger batches are encoded in a thread: 1 MiB takes about 3 ms."""
END_OFFSET_TIMEOUT_SECONDS = 1.0
"""Maximum seconds for reading a partition's end offset. Only admission control needs the result."""
MAX_SEQUENCE = 2**31 - 1
LATEST_OFFSET = -1

REFUSALS = (
    NotEnoughReplicasError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)
"""Errors that prove that the broker did not append the batch. NotLeaderForPartition proves nothing:
a leader that is replaced before its followers acknowledge a batch gives this answer although it has
appended the batch.
"""
SEQUENCE_REFUSALS = (
    OutOfOrderSequenceNumber,
    DuplicateSequenceNumber,
    UnknownProducerId,
    InvalidProducerEpoch,
)
"""Errors that say that the broker does not expect this sequence, epoch or producer id. It did not
append this batch. A retry needs a new producer id. If an earlier attempt is in doubt,
DuplicateSequenceNumber means that the earlier attempt was appended.
"""


@dataclass(slots=True)
class AppendProgress:
    """Tracks whether a batch is in doubt: it may have been appended or not."""

    _unresolved_sends: int = 0
    abandoned: bool = False
    """True once nobody waits for the batch. From then on it is not written to a connection."""

    @property
    def in_doubt(self) -> bool:
        """True if the batch may have been appended.

        That is so if it was written to a connection more often than it was refused.
        """
        return self._unresolved_sends > 0

    def mark_sent(self) -> None:
        """Records that the batch is about to be written to a connection.

        Raises CancelledError if the batch is abandoned.
        """
        if self.abandoned:
            raise asyncio.CancelledError
        self._unresolved_sends += 1

    def mark_refused(self) -> None:
        """Records that the last send certainly did not append the batch."""
        self._unresolved_sends -= 1


class _ProducerSession:
    """A connection and its producer id. An append in doubt ends the session."""

    def __init__(self, client: AIOKafkaClient, producer_id: int, epoch: int) -> None:
        self.client = client
        self.producer_id = producer_id
        self.epoch = epoch
        self.next_sequence = 0


class PartitionAppender:
    """Appends batches to one partition, one at a time."""

    def __init__(
        self, settings: KafkaSettings, *, topic: str, partition: int, client_id: str, max_bytes: int
    ) -> None:
        self._settings = settings
        self._topic_partition = TopicPartition(topic, partition)
        self._client_id = f"{client_id}-{partition}"
        self._max_bytes = max_bytes
        # One batch at a time: the sequence of each begins where that of the batch before ends
        self._append_lock = asyncio.Lock()
        self._session: _ProducerSession | None = None
        self._connected = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def connect(self) -> None:
        """Starts to connect in the background and retries until it succeeds."""
        if self._connecting is None or self._connecting.done():
            # A new context, or the log lines would have the id of the request that met the fault
            self._connecting = asyncio.create_task(self._connect(), context=contextvars.Context())

    async def wait_until_connected(self) -> None:
        """Returns once batches can be sent to this partition."""
        await self._connected.wait()

    @property
    def is_connected(self) -> bool:
        """True if a batch can be sent now."""
        return self._session is not None and not is_dead(self._session.client)

    def replace_dead(self) -> None:
        """Reconnects if aiokafka's client has died, which aiokafka does not report."""
        if self._session is not None and is_dead(self._session.client):
            log.error("client_replaced", partition=self._topic_partition.partition)
            self._replace_session()

    def partition_count(self) -> int | None:
        """Returns the topic's number of partitions, or None if this connection does not know it."""
        partitions = (
            self._session.client.cluster.partitions_for_topic(self._topic_partition.topic)
            if self._session
            else None
        )
        return len(partitions) if partitions else None

    async def append(self, records: Sequence[Record], progress: AppendProgress) -> int | None:
        """Appends the records as one batch.

        Returns the offset after the last record, or None if Kafka does not report it. Retries until
        the broker gives a final answer or the caller cancels. The batch is appended at most once,
        however often it is sent. `progress` shows, even after an error, whether it may have been
        appended. Raises MessageSizeTooLargeError and other KafkaErrors that a retry does not fix.
        """
        async with self._append_lock:
            try:
                return await self._append(records, progress)
            except BaseException:
                # It is unknown whether the sequence was used and when the connection will answer
                if progress.in_doubt:
                    self._replace_session()
                raise

    async def stop(self) -> None:
        """Closes the connection without waiting for requests under way."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, *self._closing, return_exceptions=True)
        if self._session is not None:
            await close_client(self._session.client)
            self._session = None

    async def _append(self, records: Sequence[Record], progress: AppendProgress) -> int | None:
        session = await self._ready_session()
        batch = await self._encode(records, session)
        for attempt in itertools.count():
            if attempt:
                await asyncio.sleep(
                    backoff(attempt - 1, first=MIN_BACKOFF_SECONDS, limit=MAX_BACKOFF_SECONDS)
                )
            try:
                offset = await self._send(session, batch, progress)
            except SEQUENCE_REFUSALS as error:
                if progress.in_doubt:
                    raise
                log.warning(
                    "producer_id_unknown",
                    partition=self._topic_partition.partition,
                    error=repr(error),
                )
                self._replace_session()
                session = await self._ready_session()
                batch = await self._encode(records, session)
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning(
                    "append_retried",
                    partition=self._topic_partition.partition,
                    attempt=attempt,
                    error=repr(error),
                )
                session.client.force_metadata_update()
            else:
                session.next_sequence += len(records)
                return await self._read_end_offset(session) if offset < 0 else offset + len(records)
        raise AssertionError("unreachable")

    async def _encode(self, records: Sequence[Record], session: _ProducerSession) -> bytes:
        """Encodes the records with the session's producer id and next sequence."""
        encode = partial(
            encode_batch,
            records,
            max_bytes=self._max_bytes,
            producer_id=session.producer_id,
            epoch=session.epoch,
            sequence=session.next_sequence,
        )
        is_large = sum(len(record.value) for record in records) > MIN_THREAD_BATCH_BYTES
        return await asyncio.to_thread(encode) if is_large else encode()

    async def _ready_session(self) -> _ProducerSession:
        self.replace_dead()
        if self._session is not None and self._session.next_sequence > MAX_SEQUENCE // 2:
            self._replace_session()  # long before the sequence would wrap around to 0
        await self._connected.wait()
        if self._session is None:
            raise AssertionError("connected without a session")
        return self._session

    async def _send(self, session: _ProducerSession, batch: bytes, progress: AppendProgress) -> int:
        """Sends the batch once. Returns its offset, or -1 if it had been appended before.

        Raises KafkaError.
        """
        leader = await self._wait_for_leader(session)
        request = ProduceRequest(
            None,
            -1,
            BROKER_TIMEOUT_MS,
            [(self._topic_partition.topic, [(self._topic_partition.partition, batch)])],
        )
        progress.mark_sent()
        try:
            answer = await session.client.send(leader, request)
        except NodeNotReadyError:  # the connection was closed and nothing was written
            progress.mark_refused()
            raise
        ((_, ((_, code, offset, *_rest),)),) = answer.topics
        error = for_code(code)
        if error is NoError:
            return int(offset)
        if issubclass(error, REFUSALS + SEQUENCE_REFUSALS):
            progress.mark_refused()
        if error is DuplicateSequenceNumber and progress.in_doubt:
            return -1  # an earlier attempt was appended and its answer was lost
        raise error(self._topic_partition.topic)

    async def _wait_for_leader(self, session: _ProducerSession) -> int:
        """Waits for a leader and a connection to it. Returns the leader's node id."""
        while True:
            leader: int | None = session.client.cluster.leader_for_partition(self._topic_partition)
            if leader is not None and leader >= 0 and await session.client.ready(leader):
                return leader
            session.client.force_metadata_update()
            await asyncio.sleep(MIN_BACKOFF_SECONDS)

    async def _read_end_offset(self, session: _ProducerSession) -> int | None:
        """Returns the partition's end offset, or None if Kafka does not answer.

        Used for a duplicate batch, because the broker does not report its offset.
        """
        request = OffsetRequest(
            -1,
            0,
            [(self._topic_partition.topic, [(self._topic_partition.partition, LATEST_OFFSET)])],
        )
        try:
            async with asyncio.timeout(END_OFFSET_TIMEOUT_SECONDS):
                answer = await session.client.send(await self._wait_for_leader(session), request)
        except (KafkaError, TimeoutError) as error:
            log.warning(
                "end_offset_unknown", partition=self._topic_partition.partition, error=repr(error)
            )
            return None
        ((_, ((_, code, _, offset),)),) = answer.topics
        return None if code else int(offset)

    def _replace_session(self) -> None:
        session, self._session = self._session, None
        self._connected.clear()
        if session is not None:
            abort_connections(session.client)
            closing = asyncio.create_task(close_client(session.client))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self.connect()

    async def _connect(self) -> None:
        pause = MIN_RECONNECT_BACKOFF_SECONDS
        while self._session is None:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    self._session = await self._new_session()
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning(
                    "connection_failed",
                    partition=self._topic_partition.partition,
                    error=repr(error),
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_RECONNECT_BACKOFF_SECONDS)
            # A bug in aiokafka or here. Without a retry the partition would stay unusable
            except Exception:
                log.exception(
                    "connection_failed_unexpectedly", partition=self._topic_partition.partition
                )
                await asyncio.sleep(UNEXPECTED_ERROR_BACKOFF_SECONDS)
        self._connected.set()

    async def _new_session(self) -> _ProducerSession:
        options = client_options(self._settings, client_id=self._client_id) | {
            "request_timeout_ms": REQUEST_TIMEOUT_MS
        }
        client = AIOKafkaClient(**options)
        try:
            await client.bootstrap()
            await load_metadata(client, self._topic_partition.topic)
            return await _open_session(client, self._topic_partition)
        except BaseException:
            await close_client(client)
            raise


async def _open_session(
    client: AIOKafkaClient, topic_partition: TopicPartition
) -> _ProducerSession:
    leader = client.cluster.leader_for_partition(topic_partition)
    # Any broker assigns a producer id. The leader is asked because it needs a connection anyway
    node = leader if leader is not None and leader >= 0 else client.get_random_node()
    answer = await client.send(node, InitProducerIdRequest(None, 0))
    if answer.error_code:
        raise for_code(answer.error_code)
    return _ProducerSession(client, answer.producer_id, answer.producer_epoch)
