"""Ingest's transactional pool without the service around it, and what consumers see of what it committed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

from services.ingest.config import IngestSettings
from services.ingest.service import Records
from services.ingest.transactions import TransactionPool
from shared.errors import BrokerUnavailable
from shared.messaging.records import Record
from shared.topics import TopicName
from tests.kafka import records_of
from tests.waiting import eventually

ROWS = 300
NAMES = (TopicName.IMPORTS, TopicName.ROWS, TopicName.OUTCOMES)


@asynccontextmanager
async def pool_of(settings: IngestSettings) -> AsyncIterator[TransactionPool]:
    pool = TransactionPool(settings)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def an_import(job_id: UUID, *, last: bytes = b"x") -> Records:
    key = str(job_id).encode()
    rows = [Record(key, b"x" * 1500) for _ in range(ROWS - 1)]
    return {TopicName.IMPORTS: [Record(key, b"x")], TopicName.ROWS: [*rows, Record(key, last)]}


async def all_seen(settings: IngestSettings, isolation_level: str = "read_committed") -> Counter[UUID]:
    """How many records a consumer sees of each job."""
    found: Counter[UUID] = Counter()
    for name in NAMES:
        records = await records_of(settings.kafka_bootstrap_servers, settings.topic_prefix, name, isolation_level=isolation_level)
        found.update(UUID((record.key or b"").decode()) for record in records)
    return found


async def heals(pool: TransactionPool) -> None:
    """Both producers work again, however they fared, and nothing is under way: what is read from now on does not change."""

    async def works() -> bool:
        if pool._running or pool._renewing:  # one producer alone could answer for both
            return False
        try:
            await asyncio.gather(*(pool.commit(an_import(uuid4())) for _ in range(2)))
        except BrokerUnavailable:
            return False
        return True

    await eventually(works, seconds=40)
