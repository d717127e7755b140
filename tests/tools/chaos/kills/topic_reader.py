"""Reads the topic `imports` on from where the last check ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.support.kafka import reader
from tests.tools.chaos.kills.ledger import Findings, Ledger

ATTEMPT_SECONDS = 15
"""For a consumer to start: of one that meets a broker just started aiokafka may never hear
again."""
DEADLINE_SECONDS = 60
"""Without one new record, by either isolation level. Two hundred megabytes take a busy machine
longer than a minute: only standing still counts.
"""


class TopicReader:
    """Reads what is new, read uncommitted and then read committed, and tells partitions that stand
    still.
    """

    def __init__(self, kafka: str, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._positions: dict[TopicPartition, int] = {}

    async def check(self, ledger: Ledger) -> tuple[Findings, set[int]]:
        """Reads to the end and judges; the partitions that could not be read to their end come
        beside.
        """
        shortened: list[str] = []
        starts = dict(self._positions)
        counts: dict[str, int] = {}
        async with self._consumer("read_uncommitted", starts) as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            for place, start in starts.items():
                if ends[place] < start:
                    shortened.append(
                        f"partition {place.partition} ended at {start} and now ends at "
                        f"{ends[place]}"
                    )
            behind = await _read(consumer, ends, counts, "uncommitted", ledger)
        async with self._consumer("read_committed", starts) as consumer:
            behind |= await _read(consumer, ends, counts, "committed")
        findings = ledger.check() if not behind else Findings()  # nothing is lost that was not read
        if not behind and counts["committed"] != counts["uncommitted"]:
            findings.unexpected.append(f"read committed finds another number of records: {counts}")
        findings.unexpected += shortened
        self._positions = ends
        return findings, {place.partition for place in behind}

    @asynccontextmanager
    async def _consumer(
        self, isolation_level: str, starts: dict[TopicPartition, int]
    ) -> AsyncIterator[AIOKafkaConsumer]:
        """Gives a new consumer at these positions, or at the beginning."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                opened = reader(self._kafka, self._topic, isolation_level=isolation_level)
                try:
                    async with asyncio.timeout(ATTEMPT_SECONDS):
                        consumer = await opened.__aenter__()
                        break
                except (KafkaError, TimeoutError):
                    await asyncio.sleep(0.1)
        try:
            for place, start in starts.items():
                consumer.seek(place, start)
            yield consumer
        finally:
            await opened.__aexit__(None, None, None)


async def _read(
    consumer: AIOKafkaConsumer,
    ends: dict[TopicPartition, int],
    counts: dict[str, int],
    name: str,
    ledger: Ledger | None = None,
) -> set[TopicPartition]:
    """Reads to `ends`, counts the records under `name`, and returns the partitions that stand still
    before their end.
    """
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    counts[name] = 0
    while True:
        behind = {place for place, end in ends.items() if await consumer.position(place) < end}
        if not behind or asyncio.get_running_loop().time() > deadline:
            return behind
        # what comes behind the end is for the next check
        consumer.pause(*(ends.keys() - behind - consumer.paused()))
        for place, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                if record.offset >= ends[place]:
                    break
                counts[name] += 1
                deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
                if ledger is not None:
                    ledger.read(UUID((record.key or b"").decode()), record.value or b"")
