"""Reads the cluster's id, the bounds of partitions and the groups' committed offsets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError

from deploy.cli.recovery.positions import POSITION_TOPICS, WITHOUT_GROUP, PositionOwner
from shared.contract.errors import BrokerUnavailable, PinflowError
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import admin_client, list_partitions
from shared.kafka.connection import client_options, translate_error
from shared.kafka.positions.rules import PartitionLog
from shared.runtime.settings import KafkaSettings

T = TypeVar("T")

CLIENT_ID = "pinflow-recover"
READ_TIMEOUT_SECONDS = 20.0
"""The timeout of one reading. aiokafka waits forever for a partition without a leader."""
RETRY_PAUSE_SECONDS = 0.2
"""The pause between two attempts. A broker that has just started has no coordinator yet."""


class MissingTopics(PinflowError):
    """Topics do not exist. The message names them."""


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """The cluster's id and the bounds of its partitions, read at one time."""

    cluster_id: str
    logs: Mapping[PositionOwner, Mapping[TopicPartition, PartitionLog]]


CommittedOffsets = Mapping[PositionOwner, Mapping[TopicPartition, int]]


class ClusterReader:
    """Reads offsets and bounds from Kafka. Raises BrokerUnavailable, MissingTopics."""

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
    async def open(cls, settings: KafkaSettings) -> AsyncIterator["ClusterReader"]:
        """Connects to Kafka without joining a consumer group."""
        async with admin_client(settings) as admin:
            consumer = AIOKafkaConsumer(
                **client_options(settings, client_id=CLIENT_ID),
                enable_auto_commit=False,
            )
            try:
                await consumer.start()
                yield cls(settings, admin, consumer)
            except KafkaError as error:
                raise translate_error(error) or error from error
            finally:
                await consumer.stop()

    async def read_committed(self) -> CommittedOffsets:
        """Reads the groups' committed offsets."""
        return await _with_retries(self._read_committed)

    async def read(self, committed: CommittedOffsets) -> ClusterSnapshot:
        """Reads the cluster's id and the bounds of all partitions with stored positions."""
        return await _with_retries(lambda: self._read(committed))

    async def _read_committed(self) -> CommittedOffsets:
        partitions = await self._partitions()
        return {service: await self._committed(service, partitions) for service in PositionOwner}

    async def _read(self, committed: CommittedOffsets) -> ClusterSnapshot:
        cluster_id = (await self._admin.describe_cluster())["cluster_id"]
        partitions = await self._partitions()
        all_partitions = list(chain.from_iterable(partitions.values()))
        begins = await self._consumer.beginning_offsets(all_partitions)
        ends = await self._consumer.end_offsets(all_partitions)
        logs: dict[PositionOwner, dict[TopicPartition, PartitionLog]] = {}
        for service, topics in POSITION_TOPICS.items():
            offsets = committed[service]
            logs[service] = {
                partition: PartitionLog(begins[partition], ends[partition], offsets.get(partition))
                for topic in topics
                for partition in partitions[topic]
            }
        return ClusterSnapshot(cluster_id, logs)

    async def _partitions(self) -> dict[TopicName, list[TopicPartition]]:
        topic_by_name = {
            self._names[topic]: topic for topics in POSITION_TOPICS.values() for topic in topics
        }
        partitions: dict[TopicName, list[TopicPartition]] = {}
        missing: list[str] = []
        descriptions = await self._admin.describe_topics(list(topic_by_name))
        for description in sorted(descriptions, key=itemgetter("topic")):
            name = description["topic"]
            numbers = list_partitions(description)
            partitions[topic_by_name[name]] = [TopicPartition(name, number) for number in numbers]
            if not numbers:
                missing.append(name)
        if missing:
            raise MissingTopics(", ".join(missing))
        return partitions

    async def _committed(
        self,
        service: PositionOwner,
        partitions: Mapping[TopicName, Collection[TopicPartition]],
    ) -> dict[TopicPartition, int]:
        group = self._names.group(service)
        topics = [
            topic for topic in POSITION_TOPICS[service] if (service, topic) not in WITHOUT_GROUP
        ]
        requested = [partition for topic in topics for partition in partitions[topic]]
        coordinator = await self._admin.find_coordinator(group)
        answer = await self._admin.list_consumer_group_offsets(group, coordinator, requested)
        # aiokafka 0.14 ignores an error of the whole response and returns no partitions
        if any(partition not in answer for partition in requested):
            raise NotCoordinatorForGroupError(group)
        offsets = {partition: answer[partition].offset for partition in requested}
        return {partition: offset for partition, offset in offsets.items() if offset >= 0}


async def _with_retries(read: Callable[[], Awaitable[T]]) -> T:
    """Reads until Kafka answers. Raises BrokerUnavailable after READ_TIMEOUT_SECONDS."""
    last_error: KafkaError | None = None
    try:
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            while True:
                try:
                    return await read()
                except KafkaError as error:
                    if translate_error(error) is None:
                        raise
                    last_error = error
                    await asyncio.sleep(RETRY_PAUSE_SECONDS)
    except TimeoutError as error:
        reason = repr(last_error) if last_error else f"no answer within {READ_TIMEOUT_SECONDS:g} s"
        raise BrokerUnavailable(reason) from error
