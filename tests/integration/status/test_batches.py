"""What status gets of the record batches on the topic `imports`: all that is its own, and none of
the rows.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from services.ingest.parsing.rows import validate
from services.ingest.records import Import, ImportBatch, RawUpload, build_batch
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
from tests.support.consuming import subscription_of
from tests.support.factories import NOON, submitted
from tests.support.infrastructure import fresh_topics
from tests.support.waiting import eventually

ROWS = 20
OWN = 3
"""Records of an import that are status' own: the import, the results of its failed row, the
upload."""


@pytest.fixture
def settings(environment: dict[str, Any], kafka: str) -> Iterator[ServiceSettings]:
    """Topics of the test's own."""
    with fresh_topics(kafka) as prefix:
        yield ServiceSettings(**{**environment, "topic_prefix": prefix})


class Reader:
    """Remembers what status' consumer was given, and which values its filter has looked at.

    With `dies_after`, it takes only so many batches and fails from then on.
    """

    def __init__(
        self, settings: ServiceSettings, *, max_records: int = 200, dies_after: int | None = None
    ) -> None:
        self._settings = settings
        self._max_records = max_records
        self._dies_after = dies_after
        self.looked_at: list[bytes | None] = []
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

    def _wants(self, value: bytes | None) -> bool:
        self.looked_at.append(value)
        return is_for_status(value)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator["Reader"]:
        topic = TopicNames(self._settings.topic_prefix)[TopicName.IMPORTS]
        consumer = BatchConsumer(
            subscription_of(
                "status",
                TopicName.IMPORTS,
                max_records=self._max_records,
                record_filter=RecordFilter(topic, self._wants, is_whole_import),
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


def imported() -> ImportBatch:
    rows = [submitted() for _ in range(ROWS)]
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


def own(*batches: ImportBatch) -> list[bytes]:
    return [record.value for batch in batches for record in batch.records[:OWN]]


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


async def test_status_gets_its_own_records_of_an_import_and_looks_no_further(
    settings: ServiceSettings,
) -> None:
    first, second = imported(), imported()
    await append(settings, first.records, second.records)
    async with Reader(settings).reading() as reader:
        await eventually(lambda: reader.values == own(first, second))
    assert len(first.records) == OWN + ROWS - 1
    up_to_the_first_row = [
        record.value for one in (first, second) for record in one.records[: OWN + 1]
    ]
    assert reader.looked_at == up_to_the_first_row


async def test_status_gets_its_own_records_of_two_imports_in_one_batch(
    settings: ServiceSettings,
) -> None:
    """As a cluster that mirrors topics may put them together."""
    before, first, second, after = (imported() for _ in range(4))
    await append(settings, before.records, [*first.records, *second.records], after.records)
    async with Reader(settings).reading() as reader:
        await eventually(lambda: reader.values == own(before, first, second, after))


async def test_status_gets_its_own_records_of_an_import_that_stands_in_two_batches(
    settings: ServiceSettings,
) -> None:
    """As a cluster that mirrors topics may cut them."""
    first, second = imported(), imported()
    cut = OWN - 1
    await append(settings, first.records[:cut], [*first.records[cut:], *second.records])
    async with Reader(settings).reading() as reader:
        await eventually(lambda: reader.values == own(first, second))


async def test_status_goes_on_in_the_middle_of_a_batch(settings: ServiceSettings) -> None:
    first, second = imported(), imported()
    await append(settings, first.records, second.records)
    async with Reader(settings, max_records=1).reading() as reader:
        await eventually(lambda: reader.batches == [[value] for value in own(first, second)])


async def test_status_goes_on_in_the_middle_of_a_batch_after_a_restart(
    settings: ServiceSettings,
) -> None:
    first, second = imported(), imported()
    await append(settings, first.records, second.records)
    async with Reader(settings, max_records=1, dies_after=1).reading() as reader:
        await eventually(lambda: reader.is_dead)
    assert reader.values == own(first)[:1]
    async with Reader(settings).reading() as restarted:
        await eventually(lambda: restarted.values == own(first, second)[1:])
