"""Ingest's import log without its service, and a reader of the topic `imports`."""

import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from random import randbytes, randrange
from uuid import UUID, uuid4

from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from services.ingest.model import Import
from services.ingest.parsing.rows import ParsedRows, ValidRow
from services.ingest.records import ImportBatch, build_batch
from shared.contract.errors import BrokerUnavailable
from shared.contract.events import SourceType
from shared.contract.topics import PARTITIONS, TopicName
from shared.kafka.producer import choose_partition
from tests.support.kafka import read_records
from tests.support.waiting import eventually

ROWS = 300
RECORDS = ROWS + 1
"""Records of a batch that `build_import` builds: the import's own and one for each row."""
ROW_BYTES = 1500
INCOMPRESSIBLE = base64.b85encode(randbytes(1 << 20))
"""Random text of 1 MiB. Snappy finds no repetition: it looks back at most 64 KiB."""


@asynccontextmanager
async def open_import_log(settings: IngestSettings) -> AsyncIterator[KafkaImportLog]:
    """Starts an import log, yields it and stops it."""
    acceptance = KafkaImportLog(settings)
    await acceptance.start()
    try:
        yield acceptance
    finally:
        await acceptance.stop()


def build_import(job_id: UUID, *, rows: int = ROWS, row_bytes: int = ROW_BYTES) -> ImportBatch:
    """Builds an import as ingest does.

    Its rows hardly compress, and the publisher could not publish them.
    """
    parsed = ParsedRows(
        [
            ValidRow(number, _build_content(row_bytes), b"%032x" % number, str(number), None, None)
            for number in range(1, rows + 1)
        ]
    )
    return build_batch(Import(job_id, uuid4(), datetime.now(UTC), SourceType.JSON, None, parsed))


def _build_content(size: int) -> bytes:
    start = randrange(len(INCOMPRESSIBLE) - size)
    return b'{"description":"%b"}' % INCOMPRESSIBLE[start : start + size]


def new_job_id_for(partition: int, partitions: int = PARTITIONS) -> UUID:
    """Returns a new job id whose import goes to the partition."""
    while choose_partition(str(job_id := uuid4()).encode(), partitions) != partition:
        continue
    return job_id


async def count_records_by_job(
    settings: IngestSettings, isolation_level: str = "read_uncommitted"
) -> Counter[UUID]:
    """Counts the records that a consumer reads, by job."""
    records = await read_records(
        settings.kafka_bootstrap_servers,
        settings.topic_prefix,
        TopicName.IMPORTS,
        isolation_level=isolation_level,
    )
    return Counter(UUID((record.key or b"").decode()) for record in records)


async def wait_until_accepted(acceptance: KafkaImportLog) -> UUID:
    """Sends new imports until one is acknowledged, and returns its job's id."""

    async def accepted() -> UUID | None:
        job_id = uuid4()
        try:
            await acceptance.append(build_import(job_id))
        except BrokerUnavailable:
            return None
        return job_id

    return await eventually(accepted, seconds=40)


async def wait_until_all_partitions_accept(
    acceptance: KafkaImportLog, partitions: int = PARTITIONS
) -> None:
    """Waits until every partition accepts imports and none is in progress.

    After that the topic does not change.
    """

    async def takes(partition: int) -> bool:
        try:
            await acceptance.append(build_import(new_job_id_for(partition, partitions), rows=1))
        except BrokerUnavailable:
            return False
        return True

    for partition in range(partitions):
        await eventually(partial(takes, partition), seconds=40)
    await eventually(lambda: not acceptance._running)
