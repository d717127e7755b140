"""Reads positions from Postgres, and offsets from Kafka, before partitions start."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contract.errors import BrokerUnavailable
from shared.kafka.admin import read_cluster_id
from shared.kafka.positions.preparation import Preparation
from shared.kafka.positions.rules import PartitionLog, StoredPosition
from shared.kafka.positions.store import PositionStore
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

T = TypeVar("T")

KAFKA_TIMEOUT_SECONDS = 10.0
"""The timeout for reading one partition's offsets from Kafka, and for one commit."""


class PositionSnapshot(NamedTuple):
    """The positions and logs of the partitions that have a leader."""

    cluster_id: str
    """The id of the Kafka cluster."""
    logs: dict[TopicPartition, PartitionLog]
    stored: dict[TopicPartition, StoredPosition]


class PositionReader:
    """Reads positions and the bounds of Kafka's log. Called by PositionTracker."""

    def __init__(
        self,
        store: PositionStore,
        settings: KafkaSettings,
        *,
        service: str,
        preparation: Preparation,
    ) -> None:
        self._store = store
        self._settings = settings
        self._service = service
        self._preparation = preparation

    async def read(
        self, consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
    ) -> PositionSnapshot:
        """Reads the partitions' positions and logs. Stores positions that are missing.

        After an upgrade from a release without positions, first stores the group's committed
        offsets as positions. Leaves out partitions without a leader. Raises Unavailable, KafkaError
        or OSError.
        """
        cluster_id = await read_cluster_id(self._settings)
        if await self._store.has_offsets_to_take_over():
            await self._take_over(consumer, cluster_id)
        # Other members may work meanwhile. They store a position before they commit its offset, and
        # no position is after the log's end. In this order of reading, committed <= stored <= end
        # holds, unless Postgres or Kafka was restored to an older state
        committed = await self._read_each(partitions, partial(_committed, consumer))
        stored = await self._store.load()
        bounds = await self._read_each(committed, partial(_bounds, consumer))
        logs = {
            partition: PartitionLog(begin, end, committed[partition])
            for partition, (begin, end) in bounds.items()
        }
        missing = {partition: logs[partition].begin for partition in logs.keys() - stored.keys()}
        return PositionSnapshot(
            cluster_id, logs, stored | await self._add_missing(missing, cluster_id)
        )

    async def _read_each(
        self,
        partitions: Iterable[TopicPartition],
        read: Callable[[TopicPartition], Awaitable[T]],
    ) -> dict[TopicPartition, T]:
        """Reads each partition from Kafka with `read`.

        Leaves out partitions for which Kafka does not answer, for example because they have no
        leader. The next attempt reads them again.
        """
        ordered = sorted(partitions)
        answers = await asyncio.gather(*map(read, ordered), return_exceptions=True)
        values: dict[TopicPartition, T] = {}
        for partition, answer in zip(ordered, answers, strict=True):
            if not isinstance(answer, BaseException):
                values[partition] = answer
            elif isinstance(answer, KafkaError | OSError):
                fields = {"partition": str(partition), "error": repr(answer)}
                log.warning("partition_not_read", service=self._service, **fields)
            else:
                raise answer
        return values

    async def _add_missing(
        self,
        begins: dict[TopicPartition, int],
        cluster_id: str,
    ) -> dict[TopicPartition, StoredPosition]:
        """Stores the log's first offsets as missing positions. Returns the stored positions."""
        if not begins:
            return {}
        await self._store.add(begins, cluster_id)
        stored = await self._store.load()
        return {partition: stored[partition] for partition in begins}

    async def _take_over(self, consumer: AIOKafkaConsumer, cluster_id: str) -> None:
        """Stores the group's committed offsets as positions, for all partitions of its topics."""
        partitions = {
            TopicPartition(topic, number)
            for topic in consumer.subscription()
            for number in consumer.partitions_for_topic(topic) or ()
        }
        committed = await self._read_each(partitions, partial(_committed, consumer))
        bounds = await self._read_each(partitions, partial(_bounds, consumer))
        if not committed.keys() == bounds.keys() == partitions:
            unread = sorted(partitions - (committed.keys() & bounds.keys()))
            names = ", ".join(f"{partition.topic}/{partition.partition}" for partition in unread)
            raise BrokerUnavailable(
                f"Kafka did not answer for {names}. Check that their leaders are running: until "
                "they answer, the committed offsets can't be stored as positions",
            )
        begins = {partition: begin for partition, (begin, _) in bounds.items()}
        offsets = begins | {
            partition: offset for partition, offset in committed.items() if offset is not None
        }
        offsets |= await self._preparation.offsets_to_take_over()
        await self._store.add(offsets, cluster_id, takes_over=True)
        log.info("positions_taken_over", service=self._service, partitions=len(offsets))


async def _committed(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    async with asyncio.timeout(KAFKA_TIMEOUT_SECONDS):
        offset: int | None = await consumer.committed(partition)
        return offset


async def _bounds(consumer: AIOKafkaConsumer, partition: TopicPartition) -> tuple[int, int]:
    """Reads a partition's first offset and the offset after its last record."""
    async with asyncio.timeout(KAFKA_TIMEOUT_SECONDS):
        begins = await consumer.beginning_offsets([partition])
        ends = await consumer.end_offsets([partition])
    return begins[partition], ends[partition]
