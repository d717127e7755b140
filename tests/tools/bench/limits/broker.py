"""Measures the broker alone: it appends and reads the same record batches as the services.

Bare consumers read them, because FastStream and our own loop are not part of the floor. Job events,
one for 500 rows, are left out.
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
from services.publisher.config import PublisherSettings
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
from tests.tools.bench.limits import pipeline_steps
from tests.tools.bench.limits.inputs import LimitInputs
from tests.tools.bench.limits.processes import Meter, run_in_processes
from tests.tools.bench.scenarios.bench import CONCURRENCY, MAX_UNSETTLED_IMPORTS

PREPARED_IMPORTS = 24
"""Different imports, prepared before the measurement and sent repeatedly over all partitions."""
MEMBERS = 2
"""Members of the publisher's group."""


@dataclass(frozen=True)
class _BrokerInputs:
    bootstrap_servers: str
    topic_prefix: str
    pids: dict[str, int]
    warm_up_seconds: float
    seconds: float
    rows_at_once: int
    records_at_once: int


class _PreparedImport(NamedTuple):
    batch: ImportBatch
    publisher_records: pipeline_steps.PublisherRecords


def measure_broker(limits: LimitInputs) -> Figures:
    servers, lengths = limits.servers, limits.lengths
    with fresh_topics(servers.bootstrap_servers) as prefix:
        pids = {"kafka": servers.pids["kafka"]}
        sizes = (limits.rows_at_once, limits.records_at_once)
        inputs = _BrokerInputs(
            servers.bootstrap_servers,
            prefix,
            pids,
            limits.warm_up_seconds,
            lengths.limit_seconds,
            *sizes,
        )
        (figures,) = run_in_processes(_measure, inputs)
    return figures


def _measure(inputs: _BrokerInputs) -> Figures:
    return uvloop.run(_drive(inputs))


async def _drive(inputs: _BrokerInputs) -> Figures:
    settings = IngestSettings(
        kafka_bootstrap_servers=inputs.bootstrap_servers, topic_prefix=inputs.topic_prefix
    )
    names = TopicNames(settings.topic_prefix)
    producer = RecordProducer(
        settings,
        client_id="bench",
        compressed_topics=[names[name] for name in PublisherSettings().compressed_topics],
    )
    import_log = KafkaImportLog(settings)
    meter = Meter(inputs.pids)
    work = _Work(settings, import_log, producer, inputs, meter)
    await import_log.start()
    await producer.start()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                *(group.create_task(work.append_imports()) for _ in range(CONCURRENCY)),
                *(group.create_task(work.consume_rows()) for _ in range(MEMBERS)),
                group.create_task(work.consume_outcomes()),
            ]
            await work.all_consumers_started.wait()
            await asyncio.sleep(inputs.warm_up_seconds)
            with meter.measuring() as figures:
                await asyncio.sleep(inputs.seconds)
                await meter.counted.wait()
            for task in tasks:
                task.cancel()
    finally:
        await producer.stop()
        await import_log.stop()
    return figures


class _Work:
    def __init__(
        self,
        settings: ServiceSettings,
        import_log: KafkaImportLog,
        producer: RecordProducer,
        inputs: _BrokerInputs,
        meter: Meter,
    ) -> None:
        self._settings = settings
        self._names = TopicNames(settings.topic_prefix)
        self._import_log = import_log
        self._producer = producer
        self._inputs = inputs
        self._meter = meter
        prepared_imports = [_prepare_import() for _ in range(PREPARED_IMPORTS)]
        self._imports = cycle([prepared.batch for prepared in prepared_imports])
        self._publisher_records = cycle(
            [prepared.publisher_records for prepared in prepared_imports]
        )
        # Members, outcomes' consumer and measuring task wait here: commits fail during a rebalance
        self.all_consumers_started = asyncio.Barrier(MEMBERS + 2)
        self._unsettled_imports = asyncio.Semaphore(MAX_UNSETTLED_IMPORTS)

    async def append_imports(self) -> None:
        while True:
            await self._unsettled_imports.acquire()
            await self._import_log.append(next(self._imports))

    async def consume_rows(self) -> None:
        """Consumes rows like the publisher's group, and sends records of whole imports."""
        leftover_rows = 0
        rows = RecordFilter(self._names[TopicName.IMPORTS], is_for_publisher)
        async with self._consumer("publisher", rows, TopicName.IMPORTS) as consumer:
            while True:
                batches = await consumer.getmany(
                    timeout_ms=10**10, max_records=self._inputs.rows_at_once
                )
                count = sum(len(records) for records in batches.values())
                imports, leftover_rows = divmod(leftover_rows + count, MAX_ROWS)
                publisher_records = [next(self._publisher_records) for _ in range(imports)]
                await asyncio.gather(
                    self._producer.send(
                        self._names[TopicName.OUTCOMES],
                        [record for records in publisher_records for record in records.outcomes],
                    ),
                    self._producer.send(
                        self._names[TopicName.PIN_EVENTS],
                        [record for records in publisher_records for record in records.pin_events],
                    ),
                )
                await consumer.commit()
                self._meter.count(count)
                for _ in publisher_records:
                    self._unsettled_imports.release()

    async def consume_outcomes(self) -> None:
        record_filter = RecordFilter(self._names[TopicName.IMPORTS], is_for_status, is_whole_import)
        async with self._consumer(
            "status", record_filter, TopicName.IMPORTS, TopicName.OUTCOMES
        ) as consumer:
            while True:
                await consumer.getmany(timeout_ms=10**10, max_records=self._inputs.records_at_once)
                await consumer.commit()

    @asynccontextmanager
    async def _consumer(
        self, group: str, record_filter: RecordFilter, *topics: TopicName
    ) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            *(self._names[topic] for topic in topics),
            **client_options(self._settings, client_id="bench"),
            group_id=self._names.group(group),
            isolation_level="read_uncommitted",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=MEBIBYTE,
            value_deserializer=record_filter,
        )
        try:
            await consumer.start()
            await self.all_consumers_started.wait()
            yield consumer
        finally:
            await consumer.stop()


def _prepare_import() -> _PreparedImport:
    batch = pipeline_steps.build_import(pipeline_steps.BODY.build_copy())
    return _PreparedImport(
        batch,
        pipeline_steps.build_publisher_records(
            pipeline_steps.decide_new_rows(pipeline_steps.decode_rows([batch]))
        ),
    )
