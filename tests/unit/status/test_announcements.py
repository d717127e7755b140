"""Announcing waits for Kafka no longer than the locks of the jobs may be held."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from services.status import announcements
from services.status.announcements import Announcer
from services.status.repository import JobStore
from shared.database import Row
from shared.errors import BrokerUnavailable
from shared.messaging.records import Record


class Silent:
    async def send(self, _topic: str, _records: Sequence[Record]) -> None:
        await asyncio.Event().wait()


class Store(JobStore):
    """Has one portion of no jobs to announce; remembers how much time there is for it."""

    patience_seconds = 0.0

    def __init__(self) -> None:
        """Needs no database."""

    async def announce(self, limit: int, deliver: Callable[[Sequence[Row]], Awaitable[None]], *, patience_seconds: float = 0) -> int:
        self.patience_seconds = patience_seconds
        await deliver([])
        return limit


async def test_a_silent_kafka_is_told_as_such_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "DELIVERY_SECONDS", 0.05)
    store = Store()
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(Announcer(store, Silent(), "job-events", 1).sweep(), 10)
    assert store.patience_seconds == announcements.DELIVERY_SECONDS
