"""Sends dead letters again and marks them as replayed, at least once (ADR 0026).

Kafka acknowledges the records of a chunk before their markers are written. So an interrupted replay
loses nothing: a dead letter without a marker is replayed again. Consumers are idempotent.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.cli.dead_letters.model import DeadLetterName
from deploy.cli.dead_letters.parsing import REPLAYED, REPLAYED_AS
from shared.contract.errors import BrokerUnavailable
from shared.contract.import_records import is_for_status
from shared.contract.topics import MAX_RECORD_BYTES, TopicName, TopicNames
from shared.kafka.aiokafka_internals import discard
from shared.kafka.connection import client_options, translate_error
from shared.kafka.producer import append_records, choose_partition, count_partitions
from shared.kafka.records import MAX_BATCH_BYTES, Record
from shared.runtime.settings import KafkaSettings

CHUNK_TIMEOUT_SECONDS = 20.0
"""The timeout of one chunk. Without it, a producer waits for an unavailable broker forever."""

Partition = tuple[str, int]
"""A topic's name in Kafka, and the number of a partition."""


class Replay(NamedTuple):
    """A record to send, and the dead letter that it replays."""

    name: DeadLetterName
    topic: TopicName
    record: Record
    replayed_as: str


class Replayer:
    """Replays chunks of dead letters. Raises BrokerUnavailable."""

    def __init__(self, producer: AIOKafkaProducer, names: TopicNames) -> None:
        self._producer = producer
        self._names = names

    @classmethod
    @asynccontextmanager
    async def start(cls, settings: KafkaSettings) -> AsyncIterator["Replayer"]:
        """Starts a producer, and stops it at the end."""
        # Not RecordProducer: a marker goes to its dead letter's partition, whatever its key is
        producer = AIOKafkaProducer(
            **client_options(settings, client_id="pinflow-dead-letters"),
            acks="all",
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
        )
        try:
            async with _chunk_timeout():
                await producer.start()
            yield cls(producer, TopicNames(settings.topic_prefix))
        finally:
            await discard(producer)

    async def replay(self, replays: Sequence[Replay]) -> None:
        """Sends the records, then the markers.

        If it raises, Kafka may have some of the records without their markers.
        """
        async with _chunk_timeout():
            await self.send(replays)
            await self._append(_build_markers(replays, self._names[TopicName.DEAD_LETTERS]))

    async def send(self, replays: Sequence[Replay]) -> None:
        """Sends the records without their markers. Returns when all are acknowledged."""
        records_by_partition: dict[Partition, list[Record]] = defaultdict(list)
        for replay in _order_for_status(replays):
            topic = self._names[replay.topic]
            key = replay.record.key
            count = await count_partitions(self._producer, topic)
            partition = choose_partition(key, count) if key is not None else 0
            records_by_partition[topic, partition].append(replay.record)
        await self._append(records_by_partition)

    async def _append(self, records_by_partition: dict[Partition, list[Record]]) -> None:
        futures = []
        for (topic, partition), records in records_by_partition.items():
            futures += await append_records(self._producer, topic, partition, records)
        await asyncio.gather(*futures)


def _order_for_status(replays: Iterable[Replay]) -> list[Replay]:
    """Moves the records that status reads to the front, and keeps the order otherwise.

    Status stops reading a batch at the first row if the batch looks like one whole import. A
    chunk's batch may look like one by chance, so no record for status may follow a row.
    """
    return sorted(replays, key=lambda replay: not is_for_status(replay.record.value))


def _build_markers(replays: Iterable[Replay], topic: str) -> dict[Partition, list[Record]]:
    """Builds the markers.

    A marker follows its dead letter in the same partition. So retention deletes the dead letter
    before its marker, and never the marker alone.
    """
    markers: dict[Partition, list[Record]] = defaultdict(list)
    for replay in replays:
        headers = [
            (REPLAYED, str(replay.name.offset).encode()),
            (REPLAYED_AS, replay.replayed_as.encode()),
        ]
        markers[topic, replay.name.partition].append(Record(replay.record.key, b"", headers))
    return markers


@asynccontextmanager
async def _chunk_timeout() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CHUNK_TIMEOUT_SECONDS):
            yield
    except TimeoutError as error:
        raise BrokerUnavailable(f"no answer within {CHUNK_TIMEOUT_SECONDS:g} s") from error
    except KafkaError as error:
        raise translate_error(error) or error from error
