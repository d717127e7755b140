"""The progress of a partition. Records never count as processed too early."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError

from shared.kafka.batches import find_first_offsets
from shared.kafka.consumer_health import progress as progress_module
from shared.kafka.consumer_health.progress import Progress
from shared.kafka.consumer_health.stalls import PartitionProgress

PARTITION = TopicPartition("imports", 3)


class Consumer:
    """Answers as aiokafka's consumer of one partition would."""

    def __init__(self, *, is_assigned: bool = True, is_paused: bool = False) -> None:
        self._partitions = {PARTITION} if is_assigned else set()
        self._is_paused = is_paused
        self._fetcher = SimpleNamespace(_records={})
        self.stable = -1
        """The last stable offset. aiokafka reports -1 for a consumer with read_uncommitted."""

    def assignment(self) -> set[TopicPartition]:
        return self._partitions

    def paused(self) -> set[TopicPartition]:
        return self._partitions if self._is_paused else set()

    def highwater(self, _partition: TopicPartition) -> int:
        return 12

    def last_stable_offset(self, _partition: TopicPartition) -> int:
        return self.stable

    def last_poll_timestamp(self, _partition: TopicPartition) -> int:
        return 1_700_000_000_000

    async def position(self, _partition: TopicPartition) -> int:
        return 10


def build_progress(consumer: Any) -> Progress:
    return Progress(lambda: consumer)


async def test_a_partition_is_processed_up_to_its_position() -> None:
    assert await build_progress(Consumer()).processed_offsets() == {PARTITION: 10}


@pytest.mark.parametrize(
    "consumer", [None, Consumer(is_assigned=False)], ids=["not-started", "another-replicas"]
)
async def test_an_unassigned_partition_has_no_progress(consumer: Any) -> None:
    progress = build_progress(consumer)
    assert await progress.processed_offsets() == {}
    assert await progress.read_partitions() == {}


async def test_a_partition_behind_an_open_transaction_is_recognized() -> None:
    consumer = Consumer()
    consumer.stable = 10  # equals the position, and the end is 12
    assert (await build_progress(consumer).read_partitions())[PARTITION].is_behind_transaction
    consumer.stable = 11
    assert not (await build_progress(consumer).read_partitions())[PARTITION].is_behind_transaction


async def test_a_partition_with_fetched_records_is_recognized() -> None:
    consumer = Consumer()
    assert not (await build_progress(consumer).read_partitions())[PARTITION].is_fetched
    consumer._fetcher._records[PARTITION] = object()
    assert (await build_progress(consumer).read_partitions())[PARTITION].is_fetched


async def test_records_of_the_batch_in_flight_are_not_processed_yet() -> None:
    progress = build_progress(Consumer())
    progress.start([_record("imports", 3, 8), _record("imports", 3, 9)])
    assert await progress.processed_offsets() == {PARTITION: 8}
    progress.finish()
    assert await progress.processed_offsets() == {PARTITION: 10}


async def test_a_partitions_progress_has_processed_offset_end_and_answer_time() -> None:
    progress = build_progress(Consumer())
    progress.start([_record("imports", 3, 9)])
    assert await progress.read_partitions() == {
        PARTITION: PartitionProgress(9, 12, 1_700_000_000_000)
    }


async def test_a_paused_partition_is_not_read() -> None:
    assert await build_progress(Consumer(is_paused=True)).read_partitions() == {}


async def test_an_unknown_position_in_a_rebalance_is_awaited_only_briefly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "POSITION_TIMEOUT_SECONDS", 0.05)

    class InARebalance(Consumer):
        async def position(self, _partition: TopicPartition) -> int:
            await asyncio.Event().wait()
            raise AssertionError

    class AfterIt(Consumer):
        async def position(self, _partition: TopicPartition) -> int:
            raise IllegalStateError

    for consumer in (InARebalance(), AfterIt()):
        progress = build_progress(consumer)
        assert await asyncio.wait_for(progress.processed_offsets(), 5) == {}
        assert (await progress.read_partitions())[PARTITION].processed is None


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
def test_first_offsets_are_the_lowest_of_each_partition(
    records: list[tuple[str, int, int]], first: dict[tuple[str, int], int]
) -> None:
    """A failed batch is rewound to them. An offset that is too high would skip records."""
    assert find_first_offsets([_record(*record) for record in records]) == {
        TopicPartition(*key): offset for key, offset in first.items()
    }


def _record(topic: str, partition: int, offset: int) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(topic, partition, offset, 0, 0, None, b"", None, 0, 0, ())
