"""Produces records in batches, which it builds itself: one per partition.

aiokafka's send() with a key costs 13 µs per record, mostly for murmur2 in Python and a future. Our
own batches cost 1.1–1.4 µs per record (docs/explanation/performance-history.md).
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import MAX_RECORD_BYTES
from shared.kafka.aiokafka_internals import discard, is_producer_dead
from shared.kafka.connection import REQUEST_TIMEOUT_MS, client_options, translate_error
from shared.kafka.records import MAX_BATCH_BYTES, SNAPPY_CODEC, Record
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

SEND_TIMEOUT_SECONDS = 2 * REQUEST_TIMEOUT_MS / 1000


class RecordSender(Protocol):
    """Sends records. Implemented by RecordProducer, and by a fake in tests."""

    async def send(self, topic: str, records: Sequence[Record], *, seconds: float = ...) -> None:
        """Sends records and waits until all are acknowledged.

        Raises BrokerUnavailable after at most `seconds`. Some records may be written even then.
        """


def choose_partition(key: bytes, partitions: int) -> int:
    """Computes a key's partition as Kafka's own clients do. It is slow: call it once per job."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def count_partitions(producer: AIOKafkaProducer, topic: str) -> int:
    """Returns a topic's number of partitions."""
    return len(await producer.partitions_for(topic))


async def append_records(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Iterable[Record],
    *,
    is_compressed: bool = False,
) -> list[asyncio.Future[RecordMetadata]]:
    """Passes one partition's records to the producer, in order. Returns a future per batch.

    A batch accepts its first record whatever the size. The broker refuses a batch that exceeds the
    topic's limit. If `is_compressed`, batches are compressed with snappy; otherwise as the producer
    compresses. MAX_BATCH_BYTES limits the size before compression; what does not compress grows by
    less than 2 %.
    """
    futures: list[asyncio.Future[RecordMetadata]] = []
    batch = _create_batch(producer, is_compressed=is_compressed)
    for record in records:
        if (
            batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
            is not None
        ):
            continue
        futures.append(await producer.send_batch(batch, topic, partition=partition))
        batch = _create_batch(producer, is_compressed=is_compressed)
        batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
    if batch.record_count():
        futures.append(await producer.send_batch(batch, topic, partition=partition))
    return futures


def _create_batch(producer: AIOKafkaProducer, *, is_compressed: bool) -> BatchBuilder:
    # A producer of aiokafka has one codec for all topics, but a batch can have its own
    return BatchBuilder(MAX_BATCH_BYTES, SNAPPY_CODEC) if is_compressed else producer.create_batch()


class RecordProducer:
    """Sends records at least once. All in-sync replicas must acknowledge them.

    Retries may repeat records, which is why consumers are idempotent. Batches of
    `compressed_topics`, which are full names, are compressed with snappy.
    """

    def __init__(
        self, settings: KafkaSettings, *, client_id: str, compressed_topics: Collection[str] = ()
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._compressed_topics = frozenset(compressed_topics)
        self._producer: AIOKafkaProducer | None = None
        self._is_silent = False
        self._connect_lock = asyncio.Lock()
        # aiokafka 0.14 queues only one batch per partition, and is not fair. Measured: when three
        # tasks sent to one partition, the third failed within a second instead of waiting for ten
        # (62 of 62 times). A lock is fair
        self._partition_locks: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Connects. Raises KafkaError if Kafka does not answer."""
        producer = AIOKafkaProducer(  # not in __init__: it needs a running event loop
            **client_options(self._settings, client_id=self._client_id),
            acks="all",
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
        )
        try:
            await producer.start()
        except BaseException:
            await discard(producer)
            raise
        self._producer, self._is_silent = producer, False

    async def stop(self) -> None:
        """Sends the waiting batches, then disconnects. Discards a producer that is dead."""
        if self._producer is not None:
            await (discard(self._producer) if self._is_dead else self._producer.stop())

    def problem(self) -> str | None:
        """Returns why nothing can be sent now, or None."""
        return "producer: not connected" if self._producer is None else None

    async def send(
        self, topic: str, records: Sequence[Record], *, seconds: float = SEND_TIMEOUT_SECONDS
    ) -> None:
        """Sends records. Records with the same key keep their order, unless a retry repeats some.

        Raises BrokerUnavailable.
        """
        producer = None
        try:
            async with asyncio.timeout(seconds):
                producer = await self._connected_producer()
                partitions = await count_partitions(producer, topic)
                futures, is_compressed = [], topic in self._compressed_topics
                for partition, group in _group_by_partition(records, partitions).items():
                    async with self._partition_locks[topic, partition]:
                        futures += await append_records(
                            producer, topic, partition, group, is_compressed=is_compressed
                        )
                await asyncio.gather(*futures)
        except TimeoutError as error:
            # Probably Kafka is unavailable. But the producer may be stuck, so it is replaced
            self._is_silent = producer is self._producer
            raise BrokerUnavailable(f"no acknowledgement within {seconds:g} s") from error
        except KafkaError as error:
            if unavailable := translate_error(error):
                raise unavailable from error
            if self._is_dead:
                raise BrokerUnavailable(repr(error)) from error
            raise

    async def _connected_producer(self) -> AIOKafkaProducer:
        """Returns the producer. Replaces it first if it is dead or got no answer."""
        async with self._connect_lock:
            if self._producer is not None and (self._is_dead or self._is_silent):
                log.error("producer_replaced", client_id=self._client_id, is_dead=self._is_dead)
                await discard(self._producer)
                self._producer = None
            if self._producer is None:
                await self.start()
            return self._producer

    @property
    def _is_dead(self) -> bool:
        return is_producer_dead(self._producer)


def _group_by_partition(records: Sequence[Record], partitions: int) -> dict[int, list[Record]]:
    partition_by_key: dict[bytes | None, int] = {}
    groups: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        key = record.key
        if key not in partition_by_key:
            partition_by_key[key] = choose_partition(key, partitions) if key is not None else 0
        groups[partition_by_key[key]].append(record)
    return groups
