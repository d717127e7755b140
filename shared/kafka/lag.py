"""What a consumer group has still before it, as Kafka tells: the same for whoever asks, whatever
was restarted.
"""

import asyncio
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError, UnknownTopicOrPartitionError

from shared.contract.errors import BrokerUnavailable
from shared.kafka.connection import client_options
from shared.runtime.settings import KafkaSettings

READ_SECONDS = 5.0
"""How long one reading may take, with connecting."""


class Offsets(NamedTuple):
    """By partition.

    A group's offsets were asked for before the ends: a difference is never too small.
    """

    committed: dict[int, int]
    """Where the group goes on; where the partition begins, if it has committed nothing there."""
    ends: dict[int, int]
    """Behind the last record, those of open and aborted transactions and control records included.
    """


class BacklogReader:
    """Two requests a reading, three before the group's first commit.

    Connects when it must, anew after a failure. It joins no group.
    """

    def __init__(self, settings: KafkaSettings, *, topic: str, group: str, client_id: str) -> None:
        self._settings = settings
        self._topic = topic
        self._group = group
        self._client_id = client_id
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._coordinator: int | None = None

    async def read(self) -> Offsets:
        """Raises BrokerUnavailable when Kafka does not tell, for whatever reason, a missing right
        among them.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._read()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise BrokerUnavailable(repr(error)) from error

    async def _read(self) -> Offsets:
        admin, consumer = await self._connected()
        if self._coordinator is None:
            self._coordinator = await admin.find_coordinator(self._group)
        partitions = [
            TopicPartition(self._topic, number)
            for number in await self._partitions(admin, consumer)
        ]
        told = await admin.list_consumer_group_offsets(self._group, self._coordinator, partitions)
        # aiokafka passes over an error of the whole answer. From a coordinator that is none any
        # more (a broker that was frozen or cut off, and lives on) it would look as if nothing had
        # ever been committed: every row unsettled, and 429 for everyone, for good
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
        return Offsets(
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
