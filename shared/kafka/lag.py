"""Reads a consumer group's lag from Kafka. The answer does not depend on who asks or restarted."""

import asyncio
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError, UnknownTopicOrPartitionError

from shared.contract.errors import BrokerUnavailable
from shared.kafka.connection import client_options
from shared.runtime.settings import KafkaSettings

READ_SECONDS = 5.0
"""The timeout for one reading, with connecting."""


class GroupOffsets(NamedTuple):
    """Holds offsets by partition.

    The committed offsets were read before the ends, so their difference is never too small.
    """

    committed: dict[int, int]
    """Where the group goes on. The partition's begin if it has committed nothing there."""
    ends: dict[int, int]
    """The offset behind the last record. Counts control records, and those of open and aborted
    transactions."""


class LagReader:
    """Reads one group's offsets on one topic, and joins no group.

    Makes two requests a reading, three before the group's first commit. Connects at the first
    reading, and again after a failure.
    """

    def __init__(self, settings: KafkaSettings, *, topic: str, group: str, client_id: str) -> None:
        self._settings = settings
        self._topic = topic
        self._group = group
        self._client_id = client_id
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._coordinator: int | None = None

    async def read(self) -> GroupOffsets:
        """Reads the offsets. Raises BrokerUnavailable for any failure, also for a missing right."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._read()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise BrokerUnavailable(repr(error)) from error

    async def _read(self) -> GroupOffsets:
        admin, consumer = await self._connected()
        if self._coordinator is None:
            self._coordinator = await admin.find_coordinator(self._group)
        partitions = [
            TopicPartition(self._topic, number)
            for number in await self._partitions(admin, consumer)
        ]
        told = await admin.list_consumer_group_offsets(self._group, self._coordinator, partitions)
        # aiokafka ignores an error of the whole answer. A broker that is no longer the coordinator
        # (it was frozen or cut off) would look as if nothing had ever been committed: every row
        # would be backlog, and everyone would get 429 for good
        if any(partition not in told for partition in partitions):
            raise NotCoordinatorForGroupError(self._group)
        committed = {
            partition: told[partition].offset
            for partition in partitions
            if told[partition].offset >= 0
        }
        if missing := [partition for partition in partitions if partition not in committed]:
            committed |= await consumer.beginning_offsets(missing)
        ends = await consumer.end_offsets(partitions)
        return GroupOffsets(
            {one.partition: offset for one, offset in committed.items()},
            {one.partition: end for one, end in ends.items()},
        )

    async def _connected(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(
                **client_options(self._settings, client_id=self._client_id)
            )
            await self._admin.start()
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                **client_options(self._settings, client_id=self._client_id)
            )
            await self._consumer.start()
        return self._admin, self._consumer

    async def _partitions(
        self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer
    ) -> list[int]:
        # The consumer's metadata follow a topic once its offsets have been asked for
        known = consumer.partitions_for_topic(self._topic)
        if not known:
            (topic,) = await admin.describe_topics([self._topic])
            known = {partition["partition"] for partition in topic["partitions"]}
        if not known:
            raise UnknownTopicOrPartitionError(self._topic)
        return sorted(known)

    async def close(self) -> None:
        admin, consumer = self._admin, self._consumer
        self._admin = self._consumer = self._coordinator = None
        if consumer is not None:
            await consumer.stop()
        if admin is not None:
            await admin.close()
