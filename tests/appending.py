"""Acceptance without the service around it, and what consumers see of what it appended."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import randbytes
from uuid import UUID, uuid4

from services.ingest.acceptance import Acceptance
from services.ingest.config import IngestSettings
from services.ingest.service import ImportBatch
from shared.errors import BrokerUnavailable
from shared.events import RecordKind
from shared.import_records import opening
from shared.messaging.records import Record, partition_of
from shared.topics import TopicName
from tests.kafka import records_of
from tests.waiting import eventually

ROWS = 300
ROW_BYTES = 1500


@asynccontextmanager
async def acceptance_on(settings: IngestSettings) -> AsyncIterator[Acceptance]:
    """An Acceptance that is connected."""
    acceptance = Acceptance(settings)
    await acceptance.start()
    try:
        yield acceptance
    finally:
        await acceptance.stop()


def an_import(job_id: UUID, *, rows: int = ROWS, row_bytes: int = ROW_BYTES) -> ImportBatch:
    """An import of rows that do not compress."""
    key = str(job_id).encode()
    first = opening(RecordKind.IMPORT) + b',"batch_records":%d,' % (rows + 1)
    values = [first, *(opening(RecordKind.ROW) + randbytes(row_bytes) for _ in range(rows))]
    return ImportBatch(key, [Record(key, value) for value in values], rows)


def job_on(partition: int, partitions: int = 6) -> UUID:
    """A job whose import goes to that partition."""
    while partition_of(str(job := uuid4()).encode(), partitions) != partition:
        continue
    return job


async def all_seen(settings: IngestSettings) -> Counter[UUID]:
    """How many records a consumer sees of each job."""
    records = await records_of(
        settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.IMPORTS, isolation_level="read_uncommitted"
    )
    return Counter(UUID((record.key or b"").decode()) for record in records)


async def works_again(acceptance: Acceptance, partitions: int = 6) -> None:
    """Returns when every partition takes imports and nothing is under way: what is read from now on does not change."""

    async def takes(partition: int) -> bool:
        try:
            await acceptance.append(an_import(job_on(partition, partitions), rows=1))
        except BrokerUnavailable:
            return False
        return True

    for partition in range(partitions):
        await eventually(lambda partition=partition: takes(partition), seconds=40)
    await eventually(lambda: not acceptance._running)
