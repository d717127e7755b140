"""When a replica notes that all is folded: after it saw what stood there, and folded it; never of a partition that it has lost."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from aiokafka import TopicPartition

from services.status.progress import FoldProgress
from shared.messaging.records import partition_of
from shared.topics import TopicNames

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOPIC = "pinflow.imports.v1"
OURS, THEIRS = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class Database:
    """A minute passes with each question for the time."""

    def __init__(self) -> None:
        self.time = NOON
        self.noted: dict[int, datetime] = {}

    async def now(self) -> datetime:
        self.time += timedelta(minutes=1)
        return self.time

    async def folded_until(self, partition: int) -> datetime | None:
        return self.noted.get(partition)

    async def note_folded(self, moments: Mapping[int, datetime]) -> datetime:
        self.noted |= moments
        return await self.now()


class Consumer:
    """What shared.messaging.progress tells of the consumer: `end` is None while no fetch has been answered since."""

    def __init__(self, *, end: int | None = 10, position: int = 10) -> None:
        self.mine = {OURS}
        self.end = end
        self.position = position

    def assigned(self, topic: str) -> set[TopicPartition]:
        assert topic == TOPIC
        return set(self.mine)

    def partition_of(self, topic: str, key: bytes) -> TopicPartition | None:
        return TopicPartition(topic, partition_of(key, 2))

    def end_of(self, _partition: TopicPartition, _asked_at: float) -> int | None:
        return self.end

    async def is_past(self, _partition: TopicPartition, end: int) -> bool:
        return self.position >= end


def folding(database: Database, consumer: Any) -> FoldProgress:
    return FoldProgress(database, consumer, TopicNames())


async def swept(progress: FoldProgress, times: int) -> None:
    for _ in range(times):
        assert await progress.sweep() == 0


async def test_a_moment_is_noted_when_what_stood_then_is_folded() -> None:
    database = Database()
    await swept(folding(database, Consumer()), 2)
    assert database.noted == {0: NOON + timedelta(minutes=1)}


async def test_nothing_is_noted_before_a_fetch_has_shown_what_stood_there() -> None:
    database, consumer = Database(), Consumer(end=None)
    progress = folding(database, consumer)
    await swept(progress, 5)
    assert not database.noted
    consumer.end = 10
    await swept(progress, 1)
    assert database.noted == {0: NOON + timedelta(minutes=1)}, "the moment at which the look began, not that at which it ended"


async def test_what_comes_meanwhile_does_not_hold_a_look_up() -> None:
    database, consumer = Database(), Consumer(end=10, position=9)
    progress = folding(database, consumer)
    await swept(progress, 2)
    assert not database.noted
    consumer.end, consumer.position = 1000, 10
    await swept(progress, 1)
    assert database.noted == {0: NOON + timedelta(minutes=1)}


async def test_a_look_at_a_partition_that_went_to_another_replica_is_dropped() -> None:
    database, consumer = Database(), Consumer()
    progress = folding(database, consumer)
    await swept(progress, 1)
    consumer.mine = {THEIRS}
    await swept(progress, 2)
    assert set(database.noted) == {1}


async def test_a_job_is_told_of_by_whoever_asks_once_its_partition_is_folded_up_to_then() -> None:
    database = Database()
    progress = folding(database, Consumer(end=None))
    job_id = next(one for _ in range(100) if partition_of(str(one := uuid4()).encode(), 2) == 1)
    moment = await progress.now()
    assert not await progress.has_folded(job_id, moment)
    database.noted = {0: moment + timedelta(hours=1), 1: moment - timedelta(seconds=1)}
    assert not await progress.has_folded(job_id, moment)
    database.noted[1] = moment
    assert await progress.has_folded(job_id, moment)
