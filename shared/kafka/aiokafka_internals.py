"""Holds all that Pinflow changes in aiokafka, or reads from its private attributes.

Checked against aiokafka 0.14.0, which pyproject.toml pins to 0.14.x. The test of the same name
fails if a new version lacks any of it. ADR 0032 says why each part is needed.
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
"""Seconds for each step of discarding a client or a producer. aiokafka bounds none of them."""


# Classes that aiokafka has no parameter for


class _Connection(conn.AIOKafkaConnection):  # type: ignore[misc]
    """Raises an error that aiokafka handles when a connection is broken.

    uvloop raises RuntimeError for a write to a connection that was just closed; asyncio does not.
    aiokafka handles OSError only. Anything else ends its sending task for good: metadata, fetches,
    heartbeats, a producer (found by make chaos).
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except KafkaError:  # these are RuntimeErrors too, but aiokafka's own
            raise
        except RuntimeError as error:
            self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(
                f"Connection at {self.host}:{self.port} broken: {error}"
            ) from error


class _FilteredRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Unpacks only the records of a fetched partition that a RecordFilter wants.

    aiokafka would make a ConsumerRecord of every record first. A position moves past the skipped
    records all the same.
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
        # Not for topics read committed, which Subscription refuses: aborted records would pass
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
            elif record.offset >= self.next_fetch_offset:  # or it was read before
                found = self._consumer_record(self._tp, record)
                self.next_fetch_offset = record.offset + 1
                yield found


def install() -> None:
    """Replaces aiokafka's classes for all clients of this process. Called by connection.py."""
    conn.AIOKafkaConnection = _Connection
    fetcher.PartitionRecords = _FilteredRecords


# Background tasks that can end silently


def is_dead(client: AIOKafkaClient | None) -> bool:
    """Returns whether this client will never again learn where a partition or a coordinator is.

    Any error that aiokafka does not foresee ends the task that fetches metadata, silently. Whoever
    waits for metadata then waits for ever (found by make chaos).
    """
    return _has_ended(client, "_sync_task")


def is_consumer_dead(consumer: AIOKafkaConsumer | None) -> bool:
    """Returns whether this consumer will never again fetch, or never again join its group.

    False for a consumer that was stopped.
    """
    return (
        is_dead(getattr(consumer, "_client", None))
        or _has_ended(getattr(consumer, "_fetcher", None), "_fetch_task")
        or _has_ended(getattr(consumer, "_coordinator", None), "_coordination_task")
    )


def is_producer_dead(producer: AIOKafkaProducer | None) -> bool:
    """Returns whether this producer will never again send, or never again learn where to."""
    return is_dead(getattr(producer, "client", None)) or _has_ended(
        getattr(producer, "_sender", None), "sender_task"
    )


def _has_ended(owner: object, name: str) -> bool:
    task = getattr(owner, name, None)
    return task is not None and task.done()


# What aiokafka knows but has no public method for


def has_fetched(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bool:
    """Returns whether records of a partition are fetched and wait to be taken."""
    return partition in getattr(consumer._fetcher, "_records", {})  # noqa: SLF001


async def load_metadata(client: AIOKafkaClient, topic: str) -> None:
    """Waits until the client knows a topic's partitions, without a subscription to it."""
    await client._wait_on_metadata(topic)  # noqa: SLF001


async def load_consumer_metadata(consumer: AIOKafkaConsumer, topic: str) -> None:
    """Waits until the consumer knows a topic's partitions, without a subscription to it."""
    await load_metadata(consumer._client, topic)  # noqa: SLF001


# Discarding clients in a bounded time


def abort_connections(client: AIOKafkaClient) -> None:
    """Drops what was written and not sent yet. Kafka never appends a batch that is cut in half."""
    # Its close() would still flush it
    for connection in client._conns.values():  # noqa: SLF001
        if connection._writer is not None:  # noqa: SLF001
            connection._writer.transport.abort()  # noqa: SLF001


async def close_client(client: AIOKafkaClient) -> None:
    """Closes a client's connections. Waits a short time for what they still have to write."""
    if is_dead(client):
        # close() would raise what the task died of, and close no connection
        died, client._sync_task = client._sync_task, None  # noqa: SLF001
        log.warning("client_had_died", error=None if died.cancelled() else repr(died.exception()))
    closing = asyncio.create_task(client.close())
    await asyncio.wait({closing}, timeout=DISCARD_SECONDS)
    if not closing.done():
        closing.cancel()
        log.warning("client_left_behind")
    elif not closing.cancelled() and (error := closing.exception()):
        log.warning("client_not_closed", error=repr(error))


async def discard(producer: AIOKafkaProducer) -> None:
    """Stops a producer without waiting for what it still wants to send."""
    # stop() would first wait until the broker takes the batches that were given up. So the sender
    # is stopped before
    sender = producer._sender  # noqa: SLF001
    if sender is not None and sender.sender_task is not None:
        await _cancel(sender.sender_task)
    await close_client(producer.client)
    producer._closed = True  # noqa: SLF001 - or its finalizer warns of an unclosed producer


async def _cancel(sending: "asyncio.Task[None]") -> None:
    """Cancels aiokafka's sender twice: the first time it still waits for what it has begun.

    That may be metadata of a client that has died, which would be for ever. The task is never
    awaited: it would raise what it died of, or take our own cancellation.
    """
    for _ in range(2):
        if sending.done():
            return
        sending.cancel()
        await asyncio.wait({sending}, timeout=DISCARD_SECONDS)
    if not sending.done():
        log.warning("sender_left_behind")
