"""Ingest's acceptance without the service around it, and what stands on the topic `imports`."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

from services.ingest.acceptance import Acceptance
from services.ingest.config import IngestSettings
from services.ingest.parsing import ParsedRows, ValidRow
from services.ingest.service import Import, ImportBatch, batch_of
from shared.errors import BrokerUnavailable
from shared.events import SourceType
from shared.topics import TopicName
from tests.kafka import records_of
from tests.waiting import eventually

ROWS = 300
RECORDS = ROWS + 1
"""Of the batch that `an_import` builds."""
ROW_BYTES = 1500


@asynccontextmanager
async def acceptance_of(settings: IngestSettings) -> AsyncIterator[Acceptance]:
    """Gives an acceptance that has started."""
    acceptance = Acceptance(settings)
    await acceptance.start()
    try:
        yield acceptance
    finally:
        await acceptance.stop()


def an_import(job_id: UUID, *, rows: int = ROWS, row_bytes: int = ROW_BYTES) -> ImportBatch:
    """Builds an import of so many rows as ingest does; nobody could publish them."""
    content = b'{"description":"%b"}' % (b"x" * row_bytes)
    parsed = ParsedRows([ValidRow(number, content, b"%032x" % number) for number in range(1, rows + 1)])
    return batch_of(Import(job_id, uuid4(), datetime.now(UTC), SourceType.JSON, None, parsed))


async def all_seen(settings: IngestSettings, isolation_level: str = "read_uncommitted") -> Counter[UUID]:
    """Counts the records of each job that a consumer sees."""
    records = await records_of(settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.IMPORTS, isolation_level=isolation_level)
    return Counter(UUID((record.key or b"").decode()) for record in records)


async def accepts(acceptance: Acceptance) -> UUID:
    """Returns the id of an import that was acknowledged, as soon as one is."""

    async def accepted() -> UUID | None:
        job_id = uuid4()
        try:
            await acceptance.append(an_import(job_id))
        except BrokerUnavailable:
            return None
        return job_id

    return await eventually(accepted, seconds=40)
