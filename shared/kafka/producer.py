"""Produces records in batches: one batch a partition, appended by hand.

send() with a key costs 13 µs a record, most of it murmur2 in Python and a future each. A batch made
by hand costs 1.1–1.4 µs (docs/explanation/performance.md).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata

from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import MAX_RECORD_BYTES
from shared.kafka.aiokafka_internals import discard, is_producer_dead
from shared.kafka.connection import REQUEST_TIMEOUT_MS, client_options, translate_error
from shared.kafka.records import MAX_BATCH_BYTES, Record
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

SEND_TIMEOUT_SECONDS = 2 * REQUEST_TIMEOUT_MS / 1000


class RecordSender(Protocol):
    """Sends records. Implemented by RecordProducer, and by a fake in tests."""

    async def send(self, topic: str, records: Sequence[Record], *, seconds: float = ...) -> None:
        """Sends records, and returns when every one is acknowledged.

        Raises BrokerUnavailable after at most `seconds`. Some records may be written then.
        """


def choose_partition(key: bytes, partitions: int) -> int:
    """Returns a key's partition, as Kafka's own clients do. Compute it once a job: it is slow."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def count_partitions(producer: AIOKafkaProducer, topic: str) -> int:
    """Returns how many partitions a topic has."""
    return len(await producer.partitions_for(topic))


async def append_records(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]
) -> list[asyncio.Future[RecordMetadata]]:
    """Hands records of one partition to the producer, in order. Returns a future for each batch.

    A batch takes its first record whatever its size. The broker refuses a batch larger than its
    topic's limit.
    """
    futures: list[asyncio.Future[RecordMetadata]] = []
    batch = producer.create_batch()
    for record in records:
        if (
            batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
            is not None
        ):
            continue
        futures.append(await producer.send_batch(batch, topic, partition=partition))
        batch = producer.create_batch()
        batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
    if batch.record_count():
        futures.append(await producer.send_batch(batch, topic, partition=partition))
    return futures


class RecordProducer:
    """Sends records, acknowledged by all in-sync replicas.

    At least once: consumers are idempotent.
    """

    def __init__(self, settings: KafkaSettings, *, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._is_silent = False
        self._connect_lock = asyncio.Lock()
        # aiokafka 0.14 has room for one waiting batch a partition, and is not fair. Measured: when
        # three tasks sent to one partition, the third failed within a second, though it should have
        # waited for ten (62 of 62). A lock is fair
        self._partition_locks: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Connects. Raises KafkaError while Kafka is away."""
        producer = AIOKafkaProducer(  # here, because it needs a running event loop
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
        """Sends what is waiting, and disconnects. A producer that has died is discarded."""
        if self._producer is not None:
            await (discard(self._producer) if self._is_dead else self._producer.stop())

    def problem(self) -> str | None:
        """Returns why nothing can be sent now, or None."""
        return "producer: not connected" if self._producer is None else None

    async def send(
        self, topic: str, records: Sequence[Record], *, seconds: float = SEND_TIMEOUT_SECONDS
    ) -> None:
        """Sends records. Those with one key keep their order, unless a retry repeats some.

        Raises BrokerUnavailable.
        """
        producer = None
        try:
            async with asyncio.timeout(seconds):
                producer = await self._connected_producer()
                partitions = await count_partitions(producer, topic)
                futures = []
                for partition, group in _group_by_partition(records, partitions).items():
                    async with self._partition_locks[topic, partition]:
                        futures += await append_records(producer, topic, partition, group)
                await asyncio.gather(*futures)
        except TimeoutError as error:
            # Most likely Kafka is away. If the producer itself is stuck, a new one is not
            self._is_silent = producer is self._producer
            raise BrokerUnavailable(f"no acknowledgement within {seconds:g} s") from error
        except KafkaError as error:
            if unavailable := translate_error(error):
                raise unavailable from error
            if self._is_dead:
                raise BrokerUnavailable(repr(error)) from error
            raise

    async def _connected_producer(self) -> AIOKafkaProducer:
        """Returns the producer, or a new one in place of one that died or got no answer."""
        async with self._connect_lock:
            if self._producer is not None and (self._is_dead or self._is_silent):
                log.error("producer_replaced", client_id=self._client_id, died=self._is_dead)
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
