"""Reads the cluster's id, the bounds of partitions and the groups' committed offsets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError

from deploy.recovery.selection import SOURCES, WITHOUT_GROUP, Service
from shared.errors import BrokerUnavailable, PinflowError
from shared.messaging.admin import admin_client
from shared.messaging.connection import client_options, unavailable
from shared.messaging.positions import PartitionLog
from shared.settings import KafkaSettings
from shared.topics import TopicName, TopicNames

T = TypeVar("T")

CLIENT_ID = "pinflow-recover"
READ_SECONDS = 20.0
"""For one reading of everything. A partition without a leader would be waited for without end."""
RETRY_SECONDS = 0.2
"""Between two tries. A broker that has just started has no coordinator for a moment."""


class MissingTopics(PinflowError):
    """Topics do not exist. Names them."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Kafka tells at one time."""

    cluster_id: str
    logs: Mapping[Service, Mapping[TopicPartition, PartitionLog]]


Committed = Mapping[Service, Mapping[TopicPartition, int]]


class ClusterReader:
    """Reads Kafka. Raises BrokerUnavailable, MissingTopics."""

    def __init__(
        self,
        settings: KafkaSettings,
        admin: AIOKafkaAdminClient,
        consumer: AIOKafkaConsumer,
    ) -> None:
        self._settings = settings
        self._names = TopicNames(settings.topic_prefix)
        self._admin = admin
        self._consumer = consumer

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: KafkaSettings) -> AsyncIterator["ClusterReader"]:
        """Connects to Kafka, in no consumer group."""
        async with admin_client(settings) as admin:
            consumer = AIOKafkaConsumer(
                **client_options(settings, client_id=CLIENT_ID),
                enable_auto_commit=False,
            )
            try:
                await consumer.start()
                yield cls(settings, admin, consumer)
            except KafkaError as error:
                raise unavailable(error) or error from error
            finally:
                await consumer.stop()

    async def read_committed(self) -> Committed:
        """Reads the groups' committed offsets."""
        return await _answered(self._read_committed)

    async def read(self, committed: Committed) -> Cluster:
        """Reads the cluster's id and the bounds of all partitions with stored positions."""
        return await _answered(lambda: self._read(committed))

    async def _read_committed(self) -> Committed:
        partitions = await self._partitions()
        return {service: await self._committed(service, partitions) for service in Service}

    async def _read(self, committed: Committed) -> Cluster:
        cluster_id = (await self._admin.describe_cluster())["cluster_id"]
        partitions = await self._partitions()
        every = [one for some in partitions.values() for one in some]
        begins = await self._consumer.beginning_offsets(every)
        ends = await self._consumer.end_offsets(every)
        logs: dict[Service, dict[TopicPartition, PartitionLog]] = {}
        for service, topics in SOURCES.items():
            mine = [one for topic in topics for one in partitions[topic]]
            at = committed[service]
            logs[service] = {one: PartitionLog(begins[one], ends[one], at.get(one)) for one in mine}
        return Cluster(cluster_id, logs)

    async def _partitions(self) -> dict[TopicName, list[TopicPartition]]:
        wanted = {self._names[topic]: topic for topics in SOURCES.values() for topic in topics}
        if missing := wanted.keys() - set(await self._admin.list_topics()):
            raise MissingTopics(", ".join(sorted(missing)))
        found: dict[TopicName, list[TopicPartition]] = {}
        for one in await self._admin.describe_topics(sorted(wanted)):
            name = one["topic"]
            numbers = sorted(partition["partition"] for partition in one["partitions"])
            found[wanted[name]] = [TopicPartition(name, number) for number in numbers]
        return found

    async def _committed(
        self,
        service: Service,
        partitions: Mapping[TopicName, Collection[TopicPartition]],
    ) -> dict[TopicPartition, int]:
        group = self._names.group(service)
        topics = [topic for topic in SOURCES[service] if (service, topic) not in WITHOUT_GROUP]
        asked = [one for topic in topics for one in partitions[topic]]
        coordinator = await self._admin.find_coordinator(group)
        told = await self._admin.list_consumer_group_offsets(group, coordinator, asked)
        # aiokafka 0.14 passes over an error of the whole answer: it then has no partition
        if any(one not in told for one in asked):
            raise NotCoordinatorForGroupError(group)
        return {one: told[one].offset for one in asked if told[one].offset >= 0}


async def _answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks until Kafka answers. Raises BrokerUnavailable after READ_SECONDS."""
    last: KafkaError | None = None
    try:
        async with asyncio.timeout(READ_SECONDS):
            while True:
                try:
                    return await ask()
                except KafkaError as error:
                    if unavailable(error) is None:
                        raise
                    last = error
                    await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError as error:
        reason = repr(last) if last else f"no answer within {READ_SECONDS:g} s"
        raise BrokerUnavailable(reason) from error
