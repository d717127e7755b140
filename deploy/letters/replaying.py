"""Replays in Kafka transactions: a letter's record and the mark that it was replayed stand together, or neither does.

So a replay can be killed anywhere and started again: it neither loses a letter nor replays one twice. The producer is ingest's: the
same traps (services/ingest/transactions.py) are stepped around, with one transaction at a time and no second try.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from deploy.letters.letter import Name
from deploy.letters.parsing import REPLAYED, REPLAYED_AS
from shared.errors import BrokerUnavailable, PinflowError
from shared.messaging.connection import client_options, unavailable
from shared.messaging.records import MAX_BATCH_BYTES, Record, append_records, discard, partition_count, partition_of
from shared.settings import KafkaSettings
from shared.topics import LARGEST_RECORD, TopicName, TopicNames

TRANSACTION_TIMEOUT_MS = 12_000
"""For as long a replay that was killed holds readers of the partitions it wrote to; or until the next replay begins."""
DEADLINE_SECONDS = 20.0


class Superseded(PinflowError):
    """Another replay has begun: the newer one goes on."""


class Replay(NamedTuple):
    name: Name
    topic: TopicName
    record: Record
    replayed_as: str


class Replayer:
    """One a cluster: a second one under the same transactional id ends the first. Raises BrokerUnavailable, Superseded."""

    def __init__(self, producer: AIOKafkaProducer, names: TopicNames) -> None:
        self._producer = producer
        self._names = names

    @classmethod
    @asynccontextmanager
    async def started(cls, settings: KafkaSettings) -> AsyncIterator["Replayer"]:
        producer = AIOKafkaProducer(
            **client_options(settings, client_id="pinflow-dead-letters"),
            transactional_id=f"{settings.topic_prefix}-dead-letters",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            acks="all",
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=LARGEST_RECORD,
        )
        try:
            async with _deadline():
                await producer.start()
                # Waits for the producer id: what another replay left open is aborted by then, and it can write no more
                await producer.begin_transaction()
                await producer.abort_transaction()
            yield cls(producer, TopicNames(settings.topic_prefix))
        finally:
            await discard(producer)

    async def replay(self, replays: Sequence[Replay]) -> None:
        """All of them, each with its mark, or none. When it raises, this replayer can't be used any more."""
        async with _deadline():
            await self._producer.begin_transaction()
            futures = []
            for (topic, partition), records in (await self._placed(replays)).items():
                futures += await append_records(self._producer, topic, partition, records)
            # A batch that fails for good fails only its future: commit_transaction() would commit the rest
            await asyncio.gather(*futures)
            await self._producer.commit_transaction()

    async def _placed(self, replays: Sequence[Replay]) -> dict[tuple[str, int], list[Record]]:
        placed: dict[tuple[str, int], list[Record]] = defaultdict(list)
        letters = self._names[TopicName.DEAD_LETTERS]
        for replay in replays:
            topic = self._names[replay.topic]
            key = replay.record.key
            partition = partition_of(key, await partition_count(self._producer, topic)) if key is not None else 0
            placed[topic, partition].append(replay.record)
            placed[letters, replay.name.partition].append(_mark(replay))
        return placed


def _mark(replay: Replay) -> Record:
    """In its letter's partition, behind it: retention takes the letter first."""
    told = [(REPLAYED, str(replay.name.offset).encode()), (REPLAYED_AS, replay.replayed_as.encode())]
    return Record(replay.record.key, b"", told)


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """With the broker away nothing in a transaction ever times out by itself."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    except TimeoutError as error:
        raise BrokerUnavailable(f"no answer within {DEADLINE_SECONDS:g} s") from error
    except (ProducerFenced, InvalidProducerEpoch) as error:
        raise Superseded("another replay has begun") from error
    except KafkaError as error:
        raise unavailable(error) or error from error
