"""Checks before an upgrade that the topics of the previous version are drained.

This version does not read `imports.v1` and `rows.v1`: an import left there would never settle.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.contract.errors import BrokerUnavailable, PinflowError
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import admin_client
from shared.kafka.connection import client_options, translate_error
from shared.runtime.settings import KafkaSettings

REMOVED_TOPICS = {"imports.v1": "status", "rows.v1": "publisher"}
"""The removed topics, each with the service whose consumer group read it."""
CHANGED_TOPICS = {"outcomes.v1": "status"}
"""A topic that both versions use, with its reader. The previous ingest wrote outcomes to it in
transactions, and this version ignores these outcomes. So this topic, too, must be drained before
the upgrade."""
MAX_COUNTED = 100_000
"""The highest number of records that are counted per partition: about two seconds of reading."""
POLL_MS = 500
SILENCE_SECONDS = 20.0
PAUSE_SECONDS = 0.2


class TopicBacklog(NamedTuple):
    """The unprocessed records of one old topic."""

    topic: str
    group: str
    records: int
    """Records that the group has not committed; at most MAX_COUNTED per partition."""
    open_partitions: int
    """Partitions with an open transaction. Its records are not counted yet."""


class NotDrained(PinflowError):
    """Old topics still have unprocessed records. The message names them and the next step."""

    def __init__(self, backlogs: Iterable[TopicBacklog]) -> None:
        self.backlogs = tuple(backlogs)
        super().__init__(_describe(self.backlogs))


async def require_drained(settings: KafkaSettings) -> list[str]:
    """Returns the removed topics that still exist in Kafka.

    Raises NotDrained if an old topic has unprocessed records, and BrokerUnavailable.
    """
    removed = _full_names(REMOVED_TOPICS, settings)
    readers = removed | _full_names(CHANGED_TOPICS, settings)
    async with admin_client(settings) as admin:
        existing = set(await admin.list_topics())
        if not removed.keys() & existing:
            return []
        is_upgraded = TopicNames(settings.topic_prefix)[TopicName.IMPORTS] in existing
        topics = sorted((removed if is_upgraded else readers).keys() & existing)
        partitions = {
            topic["topic"]: [
                TopicPartition(topic["topic"], part["partition"]) for part in topic["partitions"]
            ]
            for topic in await admin.describe_topics(topics)
        }
        groups = {
            topic: TopicNames(settings.topic_prefix).group(readers[topic]) for topic in topics
        }
        committed = {
            topic: await _read_committed_offsets(admin, groups[topic], partitions[topic])
            for topic in topics
        }
    async with (
        _consumer(settings, "read_committed") as committed_reader,
        _consumer(settings, "read_uncommitted") as uncommitted_reader,
    ):
        backlogs = []
        for topic in topics:
            ends = await uncommitted_reader.end_offsets(partitions[topic])
            backlogs.append(
                await _measure_backlog(
                    committed_reader, topic, groups[topic], ends, committed[topic]
                )
            )
    if undrained := [backlog for backlog in backlogs if backlog.records or backlog.open_partitions]:
        raise NotDrained(undrained)
    return [topic for topic in topics if topic in removed]


def _full_names(readers: Mapping[str, str], settings: KafkaSettings) -> dict[str, str]:
    return {f"{settings.topic_prefix}.{name}": service for name, service in readers.items()}


async def _read_committed_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: list[TopicPartition]
) -> Mapping[TopicPartition, int]:
    """Reads the group's committed offsets; -1 for a partition without one.

    After a start of Kafka the coordinator first loads the offsets. Until then it answers with an
    error, which aiokafka 0.14 may turn into an empty result. Both are retried.
    """
    deadline = asyncio.get_running_loop().time() + SILENCE_SECONDS
    while True:
        try:
            offsets = await admin.list_consumer_group_offsets(group, partitions=partitions)
        except KafkaError as error:
            if translate_error(error) is None:
                raise
            offsets = {}
        if offsets.keys() >= set(partitions):
            return {partition: committed.offset for partition, committed in offsets.items()}
        if asyncio.get_running_loop().time() > deadline:
            raise BrokerUnavailable(f"the offsets of the group {group} can't be read")
        await asyncio.sleep(PAUSE_SECONDS)


async def _measure_backlog(
    consumer: AIOKafkaConsumer,
    topic: str,
    group: str,
    ends: Mapping[TopicPartition, int],
    committed: Mapping[TopicPartition, int],
) -> TopicBacklog:
    begins = await consumer.beginning_offsets(list(ends))
    stable_ends = await consumer.end_offsets(list(ends))
    records = 0
    for partition, end in ends.items():
        # Without a valid committed offset all records of the partition count
        start = (
            committed[partition]
            if begins[partition] <= committed[partition] <= end
            else begins[partition]
        )
        records += await _count_records(consumer, partition, start, stable_ends[partition])
    open_partitions = sum(stable_ends[partition] < end for partition, end in ends.items())
    return TopicBacklog(topic, group, records, open_partitions)


async def _count_records(
    consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> int:
    """Counts the committed records between two offsets.

    The difference of the offsets is too high: transaction markers and aborted records have offsets
    too.
    """
    if start >= end:
        return 0
    consumer.assign([partition])
    consumer.seek(partition, start)
    loop, records, position = asyncio.get_running_loop(), 0, start
    moved_at = loop.time()
    while position < end and records < MAX_COUNTED:
        batches = await consumer.getmany(partition, timeout_ms=POLL_MS)
        records += sum(record.offset < end for record in batches.get(partition, []))
        before, position = position, await consumer.position(partition)
        if position > before:
            moved_at = loop.time()
        elif loop.time() - moved_at > SILENCE_SECONDS:
            raise BrokerUnavailable(
                f"{partition.topic} delivered no record for {SILENCE_SECONDS:g} s"
            )
    return min(records, MAX_COUNTED)


@asynccontextmanager
async def _consumer(
    settings: KafkaSettings, isolation_level: str
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_options(settings, client_id="pinflow-upgrade"),
        isolation_level=isolation_level,
        auto_offset_reset="earliest",  # retention may delete records while they are counted
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise translate_error(error) or error from error
    finally:
        await consumer.stop()


def _describe(backlogs: Collection[TopicBacklog]) -> str:
    lines = [
        "The topics of the previous version still have unprocessed records. Nothing was created.",
        *map(_describe_topic, backlogs),
        "Start the previous version, stop its ingest, and wait until publisher and status have",
        "processed everything. Then upgrade.",
    ]
    if any(backlog.open_partitions for backlog in backlogs):
        lines += [
            "Kafka ends an open transaction within a minute. If one stays open longer, it hangs:",
            "find and abort it with kafka-transactions.sh (find-hanging, abort).",
        ]
    return "\n".join(lines)


def _describe_topic(backlog: TopicBacklog) -> str:
    problems = []
    if records := backlog.records:
        at_least = "at least " if records >= MAX_COUNTED else ""
        problems.append(f"{at_least}{records} record{' waits' if records == 1 else 's wait'}")
    if backlog.open_partitions:
        problems.append(f"partitions with an open transaction: {backlog.open_partitions}")
    return f"  {backlog.topic} (group {backlog.group}): {'; '.join(problems)}"
