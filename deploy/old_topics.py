"""Checks before an upgrade that the topics of the version before are drained.

Nothing reads `imports.v1` and `rows.v1` any more: an import that waits there would never settle.
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
"""The service whose consumer group reads each old topic."""
CHANGED_TOPICS = {"outcomes.v1": "status"}
"""The same for a topic that stays. Ingest wrote transactions to it, and nobody looks at their ends
any more: before the upgrade it must be drained, too."""
MAX_COUNTED = 100_000
"""Waiting records that are counted of a partition: about two seconds of reading."""
POLL_MS = 500
SILENCE_SECONDS = 20.0
PAUSE_SECONDS = 0.2


class TopicBacklog(NamedTuple):
    """Counts what still waits on one old topic."""

    topic: str
    group: str
    records: int
    """Records that the group has not committed; at most MAX_COUNTED of each partition."""
    open_partitions: int
    """Partitions with an open transaction, whose records can't be told yet."""


class NotDrained(PinflowError):
    """Says what waits on the old topics, and the next step."""

    def __init__(self, undrained: Iterable[TopicBacklog]) -> None:
        self.backlogs = tuple(undrained)
        super().__init__(_refusal(self.backlogs))


async def require_drained(settings: KafkaSettings) -> list[str]:
    """Returns the old topics that are there and drained. Raises NotDrained, BrokerUnavailable."""
    old, kept = _full_names(REMOVED_TOPICS, settings), _full_names(CHANGED_TOPICS, settings)
    names = old | kept
    async with admin_client(settings) as admin:
        there = set(await admin.list_topics())
        if not old.keys() & there:
            return []
        is_upgraded = TopicNames(settings.topic_prefix)[TopicName.IMPORTS] in there
        found = sorted((old if is_upgraded else names).keys() & there)
        partitions = {
            topic["topic"]: [
                TopicPartition(topic["topic"], part["partition"]) for part in topic["partitions"]
            ]
            for topic in await admin.describe_topics(found)
        }
        groups = {topic: TopicNames(settings.topic_prefix).group(names[topic]) for topic in found}
        committed = {
            topic: await _committed(admin, groups[topic], partitions[topic]) for topic in found
        }
    async with (
        _consumer(settings, "read_committed") as consumer,
        _consumer(settings, "read_uncommitted") as everything,
    ):
        results = []
        for topic in found:
            ends = await everything.end_offsets(partitions[topic])
            results.append(await _look_at(consumer, topic, groups[topic], ends, committed[topic]))
    if undrained := [result for result in results if result.records or result.open_partitions]:
        raise NotDrained(undrained)
    return [topic for topic in found if topic in old]


def _full_names(readers: Mapping[str, str], settings: KafkaSettings) -> dict[str, str]:
    return {f"{settings.topic_prefix}.{name}": service for name, service in readers.items()}


async def _committed(
    admin: AIOKafkaAdminClient, group: str, partitions: list[TopicPartition]
) -> Mapping[TopicPartition, int]:
    """Reads the group's committed offsets; -1 for a partition without one.

    A coordinator that still loads its offsets, as after a start of Kafka, answers with an error or
    with nothing (aiokafka 0.14 hides that error): both are tried again.
    """
    deadline = asyncio.get_running_loop().time() + SILENCE_SECONDS
    while True:
        try:
            found = await admin.list_consumer_group_offsets(group, partitions=partitions)
        except KafkaError as error:
            if translate_error(error) is None:
                raise
            found = {}
        if found.keys() >= set(partitions):
            return {partition: at.offset for partition, at in found.items()}
        if asyncio.get_running_loop().time() > deadline:
            raise BrokerUnavailable(f"the offsets of the group {group} can't be read")
        await asyncio.sleep(PAUSE_SECONDS)


async def _look_at(
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
        # Without a commit, or with one that this topic can't have had, all of it counts
        start = (
            committed[partition]
            if begins[partition] <= committed[partition] <= end
            else begins[partition]
        )
        records += await _count(consumer, partition, start, stable_ends[partition])
    open_partitions = sum(stable_ends[partition] < end for partition, end in ends.items())
    return TopicBacklog(topic, group, records, open_partitions)


async def _count(
    consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> int:
    """Counts the records of committed transactions.

    Between two offsets there may be others, and markers.
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
            raise BrokerUnavailable(f"nothing came of {partition.topic} for {SILENCE_SECONDS:g} s")
    return min(records, MAX_COUNTED)


@asynccontextmanager
async def _consumer(
    settings: KafkaSettings, isolation_level: str
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_options(settings, client_id="pinflow-upgrade"),
        isolation_level=isolation_level,
        auto_offset_reset="earliest",  # retention may take records while they are counted
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise translate_error(error) or error from error
    finally:
        await consumer.stop()


def _refusal(undrained: Collection[TopicBacklog]) -> str:
    lines = [
        "The topics of the version before are not drained. Nothing was created.",
        *map(_line, undrained),
    ]
    lines += [
        (
            "Start the version before, stop its ingest, and let publisher and status settle "
            "everything."
        ),
        "Then upgrade.",
    ]
    if any(topic.open_partitions for topic in undrained):
        lines += [
            (
                "Kafka ends an open transaction within a minute. If it does not, the transaction "
                "hangs:"
            ),
            "find and abort it with kafka-transactions.sh (find-hanging, abort).",
        ]
    return "\n".join(lines)


def _line(undrained: TopicBacklog) -> str:
    waits = []
    if records := undrained.records:
        counted = "at least " if records >= MAX_COUNTED else ""
        waits.append(f"{counted}{records} record{' waits' if records == 1 else 's wait'}")
    if undrained.open_partitions:
        waits.append(f"partitions with an open transaction: {undrained.open_partitions}")
    return f"  {undrained.topic} (group {undrained.group}): {'; '.join(waits)}"
