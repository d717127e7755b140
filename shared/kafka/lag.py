"""Reads a consumer group's lag from Kafka, where all processes see the same values."""

import asyncio
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError, UnknownTopicOrPartitionError

from shared.contract.errors import BrokerUnavailable
from shared.kafka.connection import client_options
from shared.runtime.settings import KafkaSettings

READ_TIMEOUT_SECONDS = 5.0
"""The timeout for one `read`, including connecting."""


class GroupOffsets(NamedTuple):
    """Holds a group's offsets by partition.

    The committed offsets were read before the ends, so the lag is never too small.
    """

    committed: dict[int, int]
    """The group's next offsets. Without a commit, a partition's first offset."""
    ends: dict[int, int]
    """The offsets after the last records. They include control records, and records of open and
    aborted transactions."""


class LagReader:
    """Reads one group's offsets on one topic, without joining the group.

    Each `read` sends one request to the group's coordinator, and one to each broker that leads a
    partition. Before the group's first commit, it sends such a broker a second one. The first
    `read` connects, and so does the next `read` after a failure.
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
        """Reads the offsets. Raises BrokerUnavailable for any failure, even for a missing ACL."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
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
        offsets = await admin.list_consumer_group_offsets(
            self._group, self._coordinator, partitions
        )
        # aiokafka ignores an error of the whole answer. If a broker is no longer the coordinator
        # (because it was frozen or cut off), the group would seem to have no commits. Then every
        # row would count as backlog, and every import would get 429 forever
        if any(partition not in offsets for partition in partitions):
            raise NotCoordinatorForGroupError(self._group)
        committed = {
            partition: offsets[partition].offset
            for partition in partitions
            if offsets[partition].offset >= 0
        }
        if missing := [partition for partition in partitions if partition not in committed]:
            committed |= await consumer.beginning_offsets(missing)
        ends = await consumer.end_offsets(partitions)
        return GroupOffsets(
            {partition.partition: offset for partition, offset in committed.items()},
            {partition.partition: end for partition, end in ends.items()},
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
        # The consumer's metadata includes the topic after the first request for its offsets
        numbers = consumer.partitions_for_topic(self._topic)
        if not numbers:
            (topic,) = await admin.describe_topics([self._topic])
            numbers = {partition["partition"] for partition in topic["partitions"]}
        if not numbers:
            raise UnknownTopicOrPartitionError(self._topic)
        return sorted(numbers)

    async def close(self) -> None:
        """Disconnects. A later `read` connects again."""
        admin, consumer = self._admin, self._consumer
        self._admin = self._consumer = self._coordinator = None
        if consumer is not None:
            await consumer.stop()
        if admin is not None:
            await admin.close()
