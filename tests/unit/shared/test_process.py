"""A process ends when a part of it is lost, even one that never came to life."""

import asyncio
from typing import Any

import pytest

from shared import process
from shared.messaging.consumer import BatchConsumer, ConsumerLost
from shared.process import Machinery
from shared.settings import ServiceSettings
from shared.topics import TopicName
from tests.fakes import MemorySender


class Lease:
    def __init__(self, *_: object) -> None:
        """Always had."""

    async def acquire(self) -> None:
        """At once."""

    async def keep(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        """At once."""


class NeverStarts:
    """A broker whose group never gives the consumer its partitions."""

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """At once."""


class Consumer(BatchConsumer):
    def subscribe(self, _broker: object) -> None:
        """To nothing."""

    async def watch(self) -> None:
        raise ConsumerLost("no partitions, although Kafka answers")


async def _there(_settings: object) -> None:
    """All topics are."""


@pytest.fixture
def machinery(monkeypatch: pytest.MonkeyPatch) -> Machinery:
    def broker(*_: object, **__: object) -> Any:
        return NeverStarts()

    monkeypatch.setattr(process, "ReplicaLease", Lease)
    monkeypatch.setattr(process, "require_topics", _there)
    monkeypatch.setattr(process, "create_broker", broker)
    settings = ServiceSettings()
    consumer: Consumer = Consumer("unit", settings, [TopicName.ROWS], None, MemorySender())  # type: ignore[arg-type]
    return Machinery("unit", settings, consumers=[consumer])


async def test_a_consumer_that_never_gets_partitions_is_watched_too(machinery: Machinery) -> None:
    lost = asyncio.Event()
    machinery.on_lost = lost.set
    machinery.start()
    await asyncio.wait_for(lost.wait(), 10)
    await machinery.stop()
