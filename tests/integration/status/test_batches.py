"""Status reads its own records of the batches on the topic `imports`, and none of the rows."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from services.ingest.model import Import, RawUpload
from services.ingest.records import ImportBatch, build_batch
from shared.contract.events import SourceType, UploadFormat
from shared.contract.import_limits import MEBIBYTE
from shared.contract.import_records import is_for_status, is_whole_import
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import leave_group
from shared.kafka.batches import Batch
from shared.kafka.consumer import BatchConsumer
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.kafka.subscription import RecordFilter
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import build_subscription
from tests.support.factories import NOON, submitted_row
from tests.support.imports import validate
from tests.support.infrastructure import fresh_topics
from tests.support.waiting import eventually

ROWS = 20
STATUS_RECORDS = 3
"""Records of an import that status reads: the import, the results of its failed row, the upload."""


@pytest.fixture
def settings(environment: dict[str, Any], kafka: str) -> Iterator[ServiceSettings]:
    """Settings with new topics for each test."""
    with fresh_topics(kafka) as prefix:
        yield ServiceSettings(**{**environment, "topic_prefix": prefix})


class Reader:
    """Records the batches of the status consumer and the values that its filter has examined.

    With `dies_after`, it accepts only that number of batches, and then fails.
    """

    def __init__(
        self, settings: ServiceSettings, *, max_records: int = 200, dies_after: int | None = None
    ) -> None:
        self._settings = settings
        self._max_records = max_records
        self._dies_after = dies_after
        self.examined: list[bytes | None] = []
        self.batches: list[list[bytes]] = []
        self.is_dead = False

    @property
    def values(self) -> list[bytes]:
        return [value for batch in self.batches for value in batch]

    def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
        return [record.value or b"" for record in records], []

    async def process(
        self, decoded: list[bytes], _poison: list[DeadLetter], _advance: Advance
    ) -> list[DeadLetter]:
        self.is_dead = len(self.batches) == self._dies_after
        if self.is_dead:
            raise RuntimeError("dead")
        self.batches.append(decoded)
        return []

    def _examine(self, value: bytes | None) -> bool:
        self.examined.append(value)
        return is_for_status(value)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator["Reader"]:
        topic = TopicNames(self._settings.topic_prefix)[TopicName.IMPORTS]
        consumer = BatchConsumer(
            build_subscription(
                "status",
                TopicName.IMPORTS,
                max_records=self._max_records,
                record_filter=RecordFilter(topic, self._examine, is_whole_import),
            ),
            self._settings,
            self,
            RecordProducer(self._settings, client_id="test"),
        )
        await consumer.start()
        try:
            yield self
        finally:
            await consumer.stop()
            await leave_group(self._settings, consumer.group, consumer.group_instance_id)


def build_import() -> ImportBatch:
    rows = [submitted_row() for _ in range(ROWS)]
    rows[7]["title"] = ""
    return build_batch(
        Import(
            job_id=uuid4(),
            workspace_id=uuid4(),
            accepted_at=NOON,
            source_type=SourceType.JSON,
            source_filename=None,
            rows=validate(rows),
            upload=RawUpload(UploadFormat.JSON, b"[]"),
        )
    )


def status_records(*batches: ImportBatch) -> list[bytes]:
    return [record.value for batch in batches for record in batch.records[:STATUS_RECORDS]]


async def append(settings: ServiceSettings, *batches: Sequence[Record]) -> None:
    """Appends each list of records as one batch, all to one partition."""
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    servers, size = settings.kafka_bootstrap_servers, MEBIBYTE
    async with AIOKafkaProducer(bootstrap_servers=servers, max_batch_size=size) as producer:
        for records in batches:
            batch = producer.create_batch()
            for record in records:
                assert batch.append(key=record.key, value=record.value, timestamp=None) is not None
            await (await producer.send_batch(batch, topic, partition=0))


async def test_status_reads_its_records_of_an_import_and_skips_the_rows(
    settings: ServiceSettings,
) -> None:
    first, second = build_import(), build_import()
    await append(settings, first.records, second.records)
    async with Reader(settings).reading() as reader:
        await eventually(lambda: reader.values == status_records(first, second))
    assert len(first.records) == STATUS_RECORDS + ROWS - 1
    values_up_to_first_row = [
        record.value for batch in (first, second) for record in batch.records[: STATUS_RECORDS + 1]
    ]
    assert reader.examined == values_up_to_first_row


async def test_status_reads_its_records_of_two_imports_in_one_batch(
    settings: ServiceSettings,
) -> None:
    """A cluster that mirrors topics may merge the batches."""
    before, first, second, after = (build_import() for _ in range(4))
    await append(settings, before.records, [*first.records, *second.records], after.records)
    async with Reader(settings).reading() as reader:
        await eventually(lambda: reader.values == status_records(before, first, second, after))


async def test_status_reads_its_records_of_an_import_in_two_batches(
    settings: ServiceSettings,
) -> None:
    """A cluster that mirrors topics may split a batch."""
    first, second = build_import(), build_import()
    cut = STATUS_RECORDS - 1
    await append(settings, first.records[:cut], [*first.records[cut:], *second.records])
    async with Reader(settings).reading() as reader:
        await eventually(lambda: reader.values == status_records(first, second))


async def test_status_continues_in_the_middle_of_a_batch(settings: ServiceSettings) -> None:
    first, second = build_import(), build_import()
    await append(settings, first.records, second.records)
    async with Reader(settings, max_records=1).reading() as reader:
        await eventually(
            lambda: reader.batches == [[value] for value in status_records(first, second)]
        )


async def test_status_continues_in_the_middle_of_a_batch_after_a_restart(
    settings: ServiceSettings,
) -> None:
    first, second = build_import(), build_import()
    await append(settings, first.records, second.records)
    async with Reader(settings, max_records=1, dies_after=1).reading() as reader:
        await eventually(lambda: reader.is_dead)
    assert reader.values == status_records(first)[:1]
    async with Reader(settings).reading() as restarted:
        await eventually(lambda: restarted.values == status_records(first, second)[1:])
