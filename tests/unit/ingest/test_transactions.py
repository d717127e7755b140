"""What the pool leaves behind when it stops; how it fares with a real broker stands in tests/integration."""

import asyncio
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from services.ingest import transactions
from services.ingest.config import IngestSettings
from services.ingest.transactions import TransactionPool
from shared.errors import BrokerUnavailable
from shared.messaging.records import Record
from shared.topics import TopicName
from tests.waiting import eventually


class SilentProducer:
    """Says nothing to whatever is asked of it, and can't be started again."""

    def __init__(self, **_options: Any) -> None:
        self.client = self
        self._sender = None

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def begin_transaction(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


RECORDS = {TopicName.IMPORTS: [Record(str(uuid4()).encode(), b"x")]}


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> TransactionPool:
    """One producer that seemed to work and falls silent."""
    monkeypatch.setattr(transactions, "AIOKafkaProducer", SilentProducer)
    pool = TransactionPool(IngestSettings(transactional_producers=1, broker_deadline_seconds=0.2, commit_deadline_seconds=0.2))
    (slot,) = pool._slots
    slot.producer = cast("AIOKafkaProducer", SilentProducer())
    pool._free.put_nowait(slot)
    return pool


async def test_a_pool_that_has_stopped_leaves_nothing_running(pool: TransactionPool) -> None:
    before = asyncio.all_tasks()
    committing = asyncio.create_task(pool.commit(RECORDS))
    await eventually(lambda: pool._running)
    committing.cancel()  # a client that goes away: its transaction is watched by nobody but stop()
    await asyncio.gather(committing, return_exceptions=True)
    await pool.stop()
    assert not asyncio.all_tasks() - before


async def test_nothing_begins_once_the_pool_has_stopped(pool: TransactionPool) -> None:
    await pool.stop()
    with pytest.raises(BrokerUnavailable):
        await pool.commit(RECORDS)
