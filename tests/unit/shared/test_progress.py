"""When it can be said that all of a partition has been processed: never too early."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError

from shared.messaging import progress as progress_module
from shared.messaging.progress import Progress, first_offsets

PARTITION = TopicPartition("imports", 3)


class Consumer:
    """aiokafka's, as far as it is asked: one partition, its end (open transactions included), when it was fetched from."""

    def __init__(self, *, assigned: bool = True, highwater: int = 10, position: int = 10, polled_at: float | None = None) -> None:
        self._assigned = assigned
        self._highwater = highwater
        self._position = position
        self._polled_at = time.time() + 1 if polled_at is None else polled_at

    def assignment(self) -> set[TopicPartition]:
        return {PARTITION} if self._assigned else set()

    def highwater(self, _partition: TopicPartition) -> int:
        return self._highwater

    def last_poll_timestamp(self, _partition: TopicPartition) -> int:
        return int(self._polled_at * 1000)

    async def position(self, _partition: TopicPartition) -> int:
        return self._position


def progress(consumer: Any) -> Progress:
    return Progress(lambda: consumer)


async def test_a_partition_read_to_its_end_is_past_it() -> None:
    seen = progress(Consumer())
    assert seen.end_of(PARTITION, time.time()) == 10
    assert await seen.is_past(PARTITION, 10)


@pytest.mark.parametrize("consumer", [None, Consumer(assigned=False)], ids=["not-started", "another-replicas"])
async def test_of_a_partition_that_is_not_ours_nothing_is_said(consumer: Any) -> None:
    seen = progress(consumer)
    assert seen.end_of(PARTITION, time.time()) is None
    assert not await seen.is_past(PARTITION, 10)


async def test_an_end_from_before_it_was_asked_for_is_none() -> None:
    """Kafka is silent, or it was on its way when the question came."""
    now = time.time()
    assert progress(Consumer(polled_at=now - 1)).end_of(PARTITION, now) is None
    assert progress(Consumer(polled_at=now + 0.1)).end_of(PARTITION, now) is None


async def test_what_stands_behind_an_open_transaction_is_not_past() -> None:
    assert not await progress(Consumer(highwater=10, position=4)).is_past(PARTITION, 10)


async def test_what_is_in_hand_is_not_past_though_the_position_is_behind_it() -> None:
    seen = progress(Consumer())
    seen._in_hand = {PARTITION: 9}
    assert not await seen.is_past(PARTITION, 10)
    seen.puts_down()
    assert await seen.is_past(PARTITION, 10)


async def test_a_position_that_a_rebalance_keeps_is_waited_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "POSITION_SECONDS", 0.05)

    class InARebalance(Consumer):
        async def position(self, _partition: TopicPartition) -> int:
            await asyncio.Event().wait()
            raise AssertionError

    class AfterIt(Consumer):
        async def position(self, _partition: TopicPartition) -> int:
            raise IllegalStateError

    assert not await asyncio.wait_for(progress(InARebalance()).is_past(PARTITION, 10), 5)
    assert not await progress(AfterIt()).is_past(PARTITION, 10)


@pytest.mark.parametrize(
    ("records", "first"),
    [
        ([], {}),
        ([("t", 0, 5), ("t", 0, 6), ("t", 0, 7)], {("t", 0): 5}),
        ([("t", 0, 5), ("t", 1, 3), ("t", 0, 2), ("t", 1, 9)], {("t", 0): 2, ("t", 1): 3}),
        ([("t", 0, 5), ("t", 0, 3), ("t", 0, 4)], {("t", 0): 3}),
        ([("t", 0, 5), ("u", 0, 1), ("t", 0, 6)], {("t", 0): 5, ("u", 0): 1}),
    ],
    ids=["none", "a-run", "in-turns", "falling", "two-topics"],
)
def test_first_offsets_are_the_lowest_of_each_partition(records: list[tuple[str, int, int]], first: dict[tuple[str, int], int]) -> None:
    """A batch is put back to them: one too high would skip records."""
    assert first_offsets([_record(*one) for one in records]) == {TopicPartition(*key): offset for key, offset in first.items()}


def _record(topic: str, partition: int, offset: int) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(topic, partition, offset, 0, 0, None, b"", None, 0, 0, ())
