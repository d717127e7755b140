"""Reads topics, groups and the cluster's state. Nothing is cached."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code
from aiokafka.protocol.commit import OffsetFetchRequest

from shared.contract.errors import BrokerUnavailable
from shared.contract.topics import TOPICS, Topic, TopicName, TopicNames
from shared.kafka.admin import admin_client
from shared.runtime.settings import KafkaSettings
from tests.support.waiting import eventually

DEADLINE_SECONDS = 30


@asynccontextmanager
async def reader(
    kafka: str, topic: str, *, isolation_level: str = "read_committed"
) -> AsyncIterator[AIOKafkaConsumer]:
    """Yields a consumer of all partitions from their beginnings. It is in no group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka,
        isolation_level=isolation_level,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    try:
        await consumer.start()  # if this fails or is canceled, the consumer must be stopped too
        await consumer._client._wait_on_metadata(topic)
        consumer.assign(
            [
                TopicPartition(topic, partition)
                for partition in consumer.partitions_for_topic(topic) or ()
            ]
        )
        await consumer.seek_to_beginning()
        yield consumer
    finally:
        await consumer.stop()


async def wait_until_served(kafka: str, topics: Collection[str]) -> None:
    """Waits until the brokers list these topics and lead all of their partitions.

    Kafka answers the creation of a topic before that. Until then a broker may omit the topic from
    its metadata, or answer requests for it with errors that ask to try again.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await consumer.start()
            partitions = [
                TopicPartition(topic, number)
                for topic in topics
                for number in await consumer._client._wait_on_metadata(topic)
            ]
            await consumer.end_offsets(partitions)  # repeated until each leader answers
    finally:
        await consumer.stop()


async def read_records(
    kafka: str, topic_prefix: str, name: TopicName, *, isolation_level: str = "read_committed"
) -> list["ConsumerRecord[bytes, bytes]"]:
    """Returns every record of the topic. Records are in order within a partition only."""
    return [
        record
        async for record in stream_records(
            kafka, topic_prefix, name, isolation_level=isolation_level
        )
    ]


async def stream_records(
    kafka: str,
    topic_prefix: str,
    name: TopicName,
    *,
    isolation_level: str = "read_committed",
    seconds: float = DEADLINE_SECONDS,
) -> AsyncIterator["ConsumerRecord[bytes, bytes]"]:
    """Yields the topic's records one by one, because those of a long run would fill the memory.

    Reads up to the ends at the time of the call. Kafka answers a commit before it has written the
    markers to all partitions, so this also waits for transactions that are ending.
    """
    topic = TopicNames(topic_prefix)[name]
    async with reader(kafka, topic, isolation_level="read_uncommitted") as everything:
        ends = await everything.end_offsets(everything.assignment())
    async with (
        asyncio.timeout(seconds),
        reader(kafka, topic, isolation_level=isolation_level) as consumer,
    ):
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            batches = await consumer.getmany(timeout_ms=200)
            for partition in sorted(batches):
                for record in batches[partition]:
                    yield record


async def are_replicas_in_sync(kafka: str) -> bool:
    """Returns whether every replica of every partition is in sync.

    Only then may another broker stop. A broker that has registered again must still catch up.
    """
    try:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            admin_client(KafkaSettings(kafka_bootstrap_servers=kafka)) as admin,
        ):
            topics = await admin.describe_topics(await admin.list_topics())
    except (BrokerUnavailable, TimeoutError):
        return False
    return all(
        len(partition["isr"]) == len(partition["replicas"])
        for topic in topics
        for partition in topic["partitions"]
    )


async def read_cluster_id(kafka: str) -> str:
    """Returns the cluster's id."""
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=kafka)) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


async def read_committed_offsets(kafka: str, group: str) -> dict[TopicPartition, int]:
    """Returns the group's committed offsets as soon as its coordinator has loaded them.

    aiokafka 0.14 ignores an error of the whole answer: the group would seem to have no offsets.
    """
    answer = await eventually(lambda: _read_group(kafka, group))
    return {
        TopicPartition(topic, number): offset
        for topic, partitions in answer.topics
        for number, offset, *_ in partitions
    }


async def _read_group(kafka: str, group: str) -> Any:
    """Returns the coordinator's answer, or None if it asks to try again. Raises other errors."""
    try:
        async with admin_client(KafkaSettings(kafka_bootstrap_servers=kafka)) as admin:
            coordinator = await admin.find_coordinator(group)
            answer = await admin._send_request(OffsetFetchRequest(group, None), coordinator)
            if answer.error_code:
                raise for_code(answer.error_code)(f"the offsets of the group {group}")
    except BrokerUnavailable:
        return None
    return answer


class OffsetRange(NamedTuple):
    """The first offset that still exists, and the offset after the last record."""

    begin: int
    end: int


async def read_offset_ranges(kafka: str, topic: str) -> dict[TopicPartition, OffsetRange]:
    """Returns the first and the end offset of each partition."""
    async with reader(kafka, topic, isolation_level="read_uncommitted") as consumer:
        partitions = consumer.assignment()
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    return {partition: OffsetRange(begins[partition], ends[partition]) for partition in partitions}


async def delete_records(kafka: str, topic: str) -> None:
    """Deletes all present records of the topic, as retention does."""
    ranges = await read_offset_ranges(kafka, topic)
    ends = {partition: RecordsToDelete(offsets.end) for partition, offsets in ranges.items()}
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=kafka)) as admin:
        await admin.delete_records(ends)


async def add_partitions(kafka: str, topic: str, total: int) -> None:
    """Adds partitions to the topic until it has `total`, and waits until all are served."""
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=kafka)) as admin:
        await admin.create_partitions({topic: NewPartitions(total)})

    async def are_served() -> bool:
        return len(await read_offset_ranges(kafka, topic)) == total

    await eventually(are_served)


class GroupMember(NamedTuple):
    """A member of a consumer group, and its number of partitions by topic.

    Members of one process have the same `client`.
    """

    client: str
    partitions: Counter[str]


async def read_group_members(kafka: str, group: str) -> list[GroupMember]:
    """Returns the members that the group's coordinator reports; none during a rebalance."""
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=kafka)) as admin:
        (answer,) = await admin.describe_consumer_groups([group])
    ((_, _, state, _, _, members, *_),) = answer.groups
    if state != "Stable":
        return []
    assignments = [
        ConsumerProtocolMemberAssignment.decode(assignment) for *_, assignment in members
    ]
    shares = [
        Counter(partition.topic for partition in assignment.partitions())
        for assignment in assignments
    ]
    return [
        GroupMember(client, share) for (_, client, *_), share in zip(members, shares, strict=True)
    ]


async def delete_topics(settings: KafkaSettings, topics: tuple[Topic, ...] = TOPICS) -> None:
    """Deletes topics with all their records."""
    names = TopicNames(settings.topic_prefix)
    async with admin_client(settings) as admin:
        await admin.delete_topics([names[topic.name] for topic in topics])


async def kill_metadata_task(client: AIOKafkaClient) -> None:
    """Ends the task that updates the client's metadata.

    uvloop does this to aiokafka 0.14 when it writes to a connection that was just closed.
    """

    async def closed(*_: Any) -> bool:
        raise RuntimeError(
            "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        )

    client._metadata_update = closed
    client.force_metadata_update()
    await asyncio.wait([client._sync_task])
