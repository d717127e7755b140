"""Measures the broker alone: the same record batches, appended and read as the services do it.

Read by bare consumers: what FastStream and our own loop around it cost is no floor. Job events, one
for 500 rows, are left out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import uvloop
from aiokafka import AIOKafkaConsumer

from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from services.ingest.records import ImportBatch
from shared.contract.events import MAX_ROWS
from shared.contract.import_limits import MEBIBYTE
from shared.contract.import_records import is_for_publisher, is_for_status, is_whole_import
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.connection import client_options
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import RecordFilter
from shared.runtime.settings import ServiceSettings
from tests.support.infrastructure import fresh_topics
from tests.tools.bench.figures import Figures
from tests.tools.bench.limits import material
from tests.tools.bench.limits.apart import Meter, apart
from tests.tools.bench.limits.given import Limits
from tests.tools.bench.scenarios.bench import CONCURRENCY, MOST_UNSETTLED

IMPORTS = 24
"""Different ones, made before anything is measured: they are sent again and again, over all
partitions.
"""
MEMBERS = 2


@dataclass(frozen=True)
class _Given:
    bootstrap_servers: str
    topic_prefix: str
    pids: dict[str, int]
    warm_up_seconds: float
    seconds: float
    rows_at_once: int
    records_at_once: int


class _Made(NamedTuple):
    batch: ImportBatch
    announced: material.Announced


def measure_broker(limits: Limits) -> Figures:
    servers, lengths = limits.servers, limits.lengths
    with fresh_topics(servers.bootstrap_servers) as prefix:
        pids = {"kafka": servers.pids["kafka"]}
        sizes = (limits.rows_at_once, limits.records_at_once)
        given = _Given(
            servers.bootstrap_servers,
            prefix,
            pids,
            limits.warm_up_seconds,
            lengths.limit_seconds,
            *sizes,
        )
        (figures,) = apart(_measure, given)
    return figures


def _measure(given: _Given) -> Figures:
    return uvloop.run(_drive(given))


async def _drive(given: _Given) -> Figures:
    settings = IngestSettings(
        kafka_bootstrap_servers=given.bootstrap_servers, topic_prefix=given.topic_prefix
    )
    acceptance, producer = KafkaImportLog(settings), RecordProducer(settings, client_id="bench")
    meter = Meter(given.pids)
    work = _Work(settings, acceptance, producer, given, meter)
    await acceptance.start()
    await producer.start()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                *(group.create_task(work.append_imports()) for _ in range(CONCURRENCY)),
                *(group.create_task(work.take_rows()) for _ in range(MEMBERS)),
                group.create_task(work.take_outcomes()),
            ]
            await work.all_joined.wait()
            await asyncio.sleep(given.warm_up_seconds)
            with meter.measuring() as figures:
                await asyncio.sleep(given.seconds)
                await meter.counted.wait()
            for task in tasks:
                task.cancel()
    finally:
        await producer.stop()
        await acceptance.stop()
    return figures


class _Work:
    def __init__(
        self,
        settings: ServiceSettings,
        acceptance: KafkaImportLog,
        producer: RecordProducer,
        given: _Given,
        meter: Meter,
    ) -> None:
        self._settings = settings
        self._names = TopicNames(settings.topic_prefix)
        self._acceptance = acceptance
        self._producer = producer
        self._given = given
        self._meter = meter
        made = [_made() for _ in range(IMPORTS)]
        self._imports = cycle([one.batch for one in made])
        self._announced = cycle([one.announced for one in made])
        self.all_joined = asyncio.Barrier(
            MEMBERS + 2
        )  # with the reader of outcomes and who measures: a rebalance refuses commits
        self._room = asyncio.Semaphore(MOST_UNSETTLED)

    async def append_imports(self) -> None:
        while True:
            await self._room.acquire()
            await self._acceptance.append(next(self._imports))

    async def take_rows(self) -> None:
        """As a member of the publisher's group: what it sends goes out in whole imports."""
        owed = 0
        rows = RecordFilter(self._names[TopicName.IMPORTS], is_for_publisher)
        async with self._consumer("publisher", rows, TopicName.IMPORTS) as consumer:
            while True:
                batches = await consumer.getmany(
                    timeout_ms=10**10, max_records=self._given.rows_at_once
                )
                count = sum(len(records) for records in batches.values())
                imports, owed = divmod(owed + count, MAX_ROWS)
                announced = [next(self._announced) for _ in range(imports)]
                await asyncio.gather(
                    self._producer.send(
                        self._names[TopicName.OUTCOMES],
                        [one for each in announced for one in each.outcomes],
                    ),
                    self._producer.send(
                        self._names[TopicName.PIN_EVENTS],
                        [one for each in announced for one in each.pin_events],
                    ),
                )
                await consumer.commit()
                self._meter.count(count)
                for _ in announced:
                    self._room.release()

    async def take_outcomes(self) -> None:
        wanted = RecordFilter(self._names[TopicName.IMPORTS], is_for_status, is_whole_import)
        async with self._consumer(
            "status", wanted, TopicName.IMPORTS, TopicName.OUTCOMES
        ) as consumer:
            while True:
                await consumer.getmany(timeout_ms=10**10, max_records=self._given.records_at_once)
                await consumer.commit()

    @asynccontextmanager
    async def _consumer(
        self, group: str, wanted: RecordFilter, *topics: TopicName
    ) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            *(self._names[topic] for topic in topics),
            **client_options(self._settings, client_id="bench"),
            group_id=self._names.group(group),
            isolation_level="read_uncommitted",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=MEBIBYTE,
            value_deserializer=wanted,
        )
        try:
            await consumer.start()
            await self.all_joined.wait()
            yield consumer
        finally:
            await consumer.stop()


def _made() -> _Made:
    batch = material.accept(material.BODY.fresh())
    return _Made(batch, material.announce(material.found_new(material.read_rows([batch]))))
