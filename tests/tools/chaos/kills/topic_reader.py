"""Reads the topic `imports` from the end of the last check."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.support.kafka import reader
from tests.tools.chaos.kills.ledger import Findings, Ledger

ATTEMPT_SECONDS = 15
"""The timeout for the start of a consumer. aiokafka may hang if the broker has just started."""
DEADLINE_SECONDS = 60
"""The time without a new record after which a partition counts as stalled.

Reading everything may take longer: a busy machine needs over a minute for two hundred megabytes.
"""


class TopicReader:
    """Reads new records, once with each isolation level, and finds stalled partitions."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._positions: dict[TopicPartition, int] = {}

    async def check(self, ledger: Ledger) -> tuple[Findings, set[int]]:
        """Reads to the end and checks the ledger.

        Also returns the partitions that could not be read to their end.
        """
        shortened: list[str] = []
        starts = dict(self._positions)
        counts: dict[str, int] = {}
        async with self._consumer("read_uncommitted", starts) as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            for partition, start in starts.items():
                if ends[partition] < start:
                    shortened.append(
                        f"partition {partition.partition} ended at {start} and now ends at "
                        f"{ends[partition]}"
                    )
            behind = await _read(consumer, ends, counts, "uncommitted", ledger)
        async with self._consumer("read_committed", starts) as consumer:
            behind |= await _read(consumer, ends, counts, "committed")
        # If a partition was not read to its end, an import may only seem to be lost
        findings = ledger.check() if not behind else Findings()
        if not behind and counts["committed"] != counts["uncommitted"]:
            findings.unexpected.append(f"the isolation levels find different counts: {counts}")
        findings.unexpected += shortened
        self._positions = ends
        return findings, {partition.partition for partition in behind}

    @asynccontextmanager
    async def _consumer(
        self, isolation_level: str, starts: dict[TopicPartition, int]
    ) -> AsyncIterator[AIOKafkaConsumer]:
        """Starts a consumer at these positions, or at the beginning."""
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
            for partition, start in starts.items():
                consumer.seek(partition, start)
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
    """Reads to `ends` and counts the records as `counts[name]`. Returns the stalled partitions."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    counts[name] = 0
    while True:
        behind = {
            partition for partition, end in ends.items() if await consumer.position(partition) < end
        }
        if not behind or asyncio.get_running_loop().time() > deadline:
            return behind
        # Records after the end are left for the next check
        consumer.pause(*(ends.keys() - behind - consumer.paused()))
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                if record.offset >= ends[partition]:
                    break
                counts[name] += 1
                deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
                if ledger is not None:
                    ledger.read(UUID((record.key or b"").decode()), record.value or b"")
