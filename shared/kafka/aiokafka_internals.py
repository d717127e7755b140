"""Changes parts of aiokafka, and uses its private attributes. No other module does.

Written for aiokafka 0.14.0; pyproject.toml pins 0.14.x. The test of the same name fails if a new
version lacks any of these parts. ADR 0032 explains why each is needed.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, conn
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import ConsumerRecord

from shared.kafka.subscription import RecordFilter

log = structlog.get_logger()

DISCARD_SECONDS = 2.0
"""The timeout for each step of discarding a client or producer. aiokafka itself has no timeouts."""


# Classes that aiokafka has no parameter for


class _Connection(conn.AIOKafkaConnection):  # type: ignore[misc]
    """Translates uvloop's error for a broken connection into one that aiokafka handles.

    For a write to a connection that was just closed, uvloop raises RuntimeError; asyncio does not.
    aiokafka handles only OSError. Any other error ends its background task for good, which stops
    metadata, fetches, heartbeats or a producer (found by `make chaos`).
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except KafkaError:  # aiokafka's own errors are RuntimeErrors too
            raise
        except RuntimeError as error:
            self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(
                f"The connection to {self.host}:{self.port} is broken: {error}"
            ) from error


class _FilteredRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Unpacks only the fetched records that a RecordFilter wants.

    aiokafka would create a ConsumerRecord for every record first. The position still moves past the
    skipped records.
    """

    _value_deserializer: Any

    def _unpack_records(self) -> Iterator["ConsumerRecord[bytes, bytes]"]:
        record_filter: object = self._value_deserializer
        if isinstance(record_filter, RecordFilter) and record_filter.topic == self._tp.topic:
            self._value_deserializer = None
            return self._unpack_wanted(record_filter)
        return super()._unpack_records()  # type: ignore[no-any-return]

    def _unpack_wanted(
        self, record_filter: RecordFilter
    ) -> Iterator["ConsumerRecord[bytes, bytes]"]:
        # Would pass aborted records. So Subscription allows no filter with read_committed
        while self._records.has_next():
            batch = self._records.next_batch()
            if not batch.validate_crc():
                raise fetcher.Errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not batch.is_control_batch:
                yield from self._select_wanted(batch, record_filter)
            self.next_fetch_offset = batch.next_offset

    def _select_wanted(
        self, batch: Any, record_filter: RecordFilter
    ) -> Iterator["ConsumerRecord[bytes, bytes]"]:
        ends_early: bool | None = None
        for record in batch:
            if ends_early is None:
                ends_early = record_filter.ends_early(
                    record.value, batch.next_offset - batch.base_offset
                )
            if not record_filter.wants(record.value):
                if ends_early:
                    return
            elif record.offset >= self.next_fetch_offset:  # otherwise it was read before
                consumer_record = self._consumer_record(self._tp, record)
                self.next_fetch_offset = record.offset + 1
                yield consumer_record


def install() -> None:
    """Replaces classes of aiokafka, for all clients of this process. Called by connection.py."""
    conn.AIOKafkaConnection = _Connection
    fetcher.PartitionRecords = _FilteredRecords


# Background tasks that can end silently


def is_dead(client: AIOKafkaClient | None) -> bool:
    """Returns whether this client can't learn any more where partitions and coordinators are.

    An unexpected error silently ends the task in which aiokafka fetches metadata. Then every wait
    for metadata lasts forever (found by `make chaos`).
    """
    return _has_ended(client, "_sync_task")


def is_consumer_dead(consumer: AIOKafkaConsumer | None) -> bool:
    """Returns whether a task that this consumer needs to fetch or to join its group has ended.

    Returns False for None, which is a consumer that was not started or has been stopped.
    """
    return (
        is_dead(getattr(consumer, "_client", None))
        or _has_ended(getattr(consumer, "_fetcher", None), "_fetch_task")
        or _has_ended(getattr(consumer, "_coordinator", None), "_coordination_task")
    )


def is_producer_dead(producer: AIOKafkaProducer | None) -> bool:
    """Returns whether a task that this producer needs to send has ended."""
    return is_dead(getattr(producer, "client", None)) or _has_ended(
        getattr(producer, "_sender", None), "sender_task"
    )


def _has_ended(owner: object, name: str) -> bool:
    task = getattr(owner, name, None)
    return task is not None and task.done()


# State that aiokafka has no public method for


def has_fetched(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bool:
    """Returns whether fetched records of a partition wait in the client."""
    return partition in getattr(consumer._fetcher, "_records", {})  # noqa: SLF001


async def load_metadata(client: AIOKafkaClient, topic: str) -> None:
    """Fetches the metadata of a topic without subscribing to it."""
    await client._wait_on_metadata(topic)  # noqa: SLF001


async def load_consumer_metadata(consumer: AIOKafkaConsumer, topic: str) -> None:
    """Fetches the metadata of a topic without subscribing the consumer to it."""
    await load_metadata(consumer._client, topic)  # noqa: SLF001


# Discarding clients within a time limit


def abort_connections(client: AIOKafkaClient) -> None:
    """Drops written data that is not sent yet. Kafka never appends an incomplete batch."""
    # The client's close() would still send it
    for connection in client._conns.values():  # noqa: SLF001
        if connection._writer is not None:  # noqa: SLF001
            connection._writer.transport.abort()  # noqa: SLF001


async def close_client(client: AIOKafkaClient) -> None:
    """Closes a client's connections. Waits for unsent data, for at most DISCARD_SECONDS."""
    if is_dead(client):
        # close() would raise the error that ended the task, and leave the connections open
        dead, client._sync_task = client._sync_task, None  # noqa: SLF001
        log.warning("client_had_died", error=None if dead.cancelled() else repr(dead.exception()))
    closing = asyncio.create_task(client.close())
    await asyncio.wait({closing}, timeout=DISCARD_SECONDS)
    if not closing.done():
        closing.cancel()
        log.warning("client_close_timed_out")
    elif not closing.cancelled() and (error := closing.exception()):
        log.warning("client_close_failed", error=repr(error))


async def discard(producer: AIOKafkaProducer) -> None:
    """Stops a producer without waiting for unsent batches."""
    # Stops the sender first: stop() would wait until the broker acknowledges the abandoned batches
    sender = producer._sender  # noqa: SLF001
    if sender is not None and sender.sender_task is not None:
        await _cancel(sender.sender_task)
    await close_client(producer.client)
    producer._closed = True  # noqa: SLF001 - otherwise its finalizer warns


async def _cancel(sending: "asyncio.Task[None]") -> None:
    """Cancels aiokafka's sender twice: after the first time, it still waits for requests in flight.

    If the client is dead, such a wait lasts forever. The task is not awaited: that would raise the
    error that ended it, or pass our own cancellation to it.
    """
    for _ in range(2):
        if sending.done():
            return
        sending.cancel()
        await asyncio.wait({sending}, timeout=DISCARD_SECONDS)
    if not sending.done():
        log.warning("sender_cancel_timed_out")
