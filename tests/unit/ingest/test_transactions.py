"""What the pool leaves behind when it stops; how it fares with a real broker stands in tests/integration."""

import asyncio
from collections.abc import Callable
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


class BrokenProducer(SilentProducer):
    """Fails at its start as no client should."""

    async def start(self) -> None:
        raise AssertionError("invalid state transition")


class WorkingProducer(SilentProducer):
    async def start(self) -> None: ...

    async def begin_transaction(self) -> None: ...

    async def abort_transaction(self) -> None: ...


def _unmakeable() -> SilentProducer:
    raise ValueError("no such option")


async def test_a_producer_that_fails_in_a_way_nobody_foresaw_is_tried_again_and_the_pool_says_so(
    pool: TransactionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "FAILURE_PAUSE_SECONDS", 0.01)
    tries: list[object] = []
    make: Callable[[], SilentProducer] = BrokenProducer

    def trying(**_: Any) -> SilentProducer:
        tries.append(make)
        return make()

    monkeypatch.setattr(transactions, "AIOKafkaProducer", trying)
    assert pool.trouble() is None
    with pytest.raises(BrokerUnavailable):
        await pool.commit(RECORDS)
    for broken in (BrokenProducer, _unmakeable):
        make = broken
        tries.clear()
        await eventually(lambda: len(tries) > 1)
        assert pool.trouble() == "no transactional producer works"
    make = WorkingProducer
    await eventually(lambda: pool.trouble() is None)
    await pool.stop()


async def test_a_pool_whose_producers_fail_in_a_way_nobody_foresaw_starts_when_they_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "FAILURE_PAUSE_SECONDS", 0.01)
    tries = iter([BrokenProducer, BrokenProducer])
    monkeypatch.setattr(transactions, "AIOKafkaProducer", lambda **_: next(tries, WorkingProducer)())
    pool = TransactionPool(IngestSettings(transactional_producers=1))
    assert pool.trouble()
    async with asyncio.timeout(10):
        await pool.start()
    assert pool.trouble() is None
    await pool.stop()


async def test_no_slot_that_can_work_is_trouble_whatever_became_of_it(pool: TransactionPool) -> None:
    pool._free.get_nowait()
    assert pool.trouble() == "no transactional producer works"
