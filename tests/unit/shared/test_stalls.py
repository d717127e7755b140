"""Stalled partitions, and healthy ones that must not look stalled. The tests set the clock."""

import pytest
from aiokafka import TopicPartition

from shared.kafka.consumer_health.stalls import (
    STALLED_AFTER_SECONDS,
    PartitionProgress,
    Stall,
    StallDetector,
)

FIRST, SECOND = TopicPartition("pinflow.imports.v2", 3), TopicPartition("pinflow.imports.v2", 4)


class Watch:
    """A StallDetector with a clock that moves by one second before each `observe`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stalls = StallDetector(clock=lambda: self.now)

    def observe(self, **states: PartitionProgress) -> None:
        self.now += 1
        partitions = {"first": FIRST, "second": SECOND}
        self.stalls.observe({partitions[name]: state for name, state in states.items()})

    @property
    def seconds(self) -> float:
        return self.stalls.seconds(FIRST)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_partition_with_waiting_records_and_no_progress_is_stalled(watch: Watch) -> None:
    for answer in range(76):
        watch.observe(first=PartitionProgress(5, 9, answer), second=PartitionProgress(9, 9, answer))
    assert watch.seconds == 75
    assert watch.stalls.seconds(SECOND) == 0
    expected = "pinflow.imports.v2/3 has made no progress for 75 s although records wait"
    assert str(watch.stalls.longest()) == expected


def test_a_stall_is_reported_after_one_minute(watch: Watch) -> None:
    for answer in range(60):
        watch.observe(first=PartitionProgress(5, 9, answer))
    assert watch.seconds == STALLED_AFTER_SECONDS - 1
    assert watch.stalls.longest() is None
    watch.observe(first=PartitionProgress(5, 9, 60))
    assert watch.stalls.longest() == Stall(FIRST, STALLED_AFTER_SECONDS, is_silent=False)


def test_a_partition_with_progress_is_not_stalled_even_with_a_long_backlog(watch: Watch) -> None:
    for number in range(200):
        watch.observe(first=PartitionProgress(number, 1_000_000, number))
    assert watch.seconds == 0


def test_an_idle_partition_is_not_stalled(watch: Watch) -> None:
    for answer in range(200):
        watch.observe(first=PartitionProgress(9, 9, answer))
    assert watch.seconds == 0


def test_a_stall_is_measured_from_the_arrival_of_waiting_records(watch: Watch) -> None:
    for answer in range(200):
        watch.observe(first=PartitionProgress(9, 9, answer))
    for answer in range(200, 210):
        watch.observe(first=PartitionProgress(9, 10, answer))
    assert watch.seconds == 10


def test_progress_ends_a_stall(watch: Watch) -> None:
    for answer in range(100):
        watch.observe(first=PartitionProgress(5, 9, answer))
    watch.observe(first=PartitionProgress(6, 9, 100))
    assert watch.seconds == 0
    assert watch.stalls.longest() is None


@pytest.mark.parametrize(
    "state",
    [PartitionProgress(9, 9, 7), PartitionProgress(5, 9, 7), PartitionProgress(None, None, None)],
)
def test_a_silent_leader_is_a_stall_if_other_leaders_answer(
    watch: Watch,
    state: PartitionProgress,
) -> None:
    for answer in range(71):
        watch.observe(first=state, second=PartitionProgress(9, 9, answer))
    assert watch.seconds == 70
    longest = watch.stalls.longest()
    assert longest is not None
    assert longest.partition == FIRST


def test_a_stall_names_a_silent_leader_as_its_reason(watch: Watch) -> None:
    for answer in range(71):
        watch.observe(first=PartitionProgress(9, 9, 7), second=PartitionProgress(9, 9, answer))
    expected = (
        "pinflow.imports.v2/3 has had no answer to a fetch for 70 s although other partitions have"
    )
    assert str(watch.stalls.longest()) == expected


def test_an_idle_partition_is_not_stalled_while_kafka_is_unavailable(watch: Watch) -> None:
    for _ in range(200):
        watch.observe(first=PartitionProgress(9, 9, 7), second=PartitionProgress(9, 9, 7))
    assert watch.seconds == 0


def test_a_newly_assigned_partition_is_not_stalled(watch: Watch) -> None:
    for answer in range(100):
        watch.observe(second=PartitionProgress(5, 9, answer))
    watch.observe(first=PartitionProgress(5, 9, 100), second=PartitionProgress(5, 9, 100))
    assert watch.seconds == 0
    assert watch.stalls.seconds(SECOND) == 100


def test_a_partition_that_is_assigned_again_starts_from_zero(watch: Watch) -> None:
    for answer in range(100):
        watch.observe(first=PartitionProgress(5, 9, answer))
    watch.observe()
    assert watch.seconds == 0
    watch.observe(first=PartitionProgress(5, 9, 100))
    assert watch.seconds == 0


def test_a_rebalance_does_not_count_as_progress(watch: Watch) -> None:
    """The position is unknown for a moment, but the partition is still stalled."""
    for answer in range(50):
        watch.observe(first=PartitionProgress(5, 9, answer))
    watch.observe(first=PartitionProgress(None, None, None))
    for answer in range(51, 61):
        watch.observe(first=PartitionProgress(5, 9, answer))
    assert watch.seconds == 60


def test_a_consumer_that_waits_for_capacity_is_not_stalled(watch: Watch) -> None:
    for answer in range(100):
        watch.observe(first=PartitionProgress(5, 9, answer))
    watch.stalls.reset()
    assert watch.stalls.longest() is None
    watch.observe(first=PartitionProgress(5, 9, 100))
    assert watch.seconds == 0


def test_one_waiting_record_is_enough_for_a_stall(watch: Watch) -> None:
    for answer in range(61):
        watch.observe(first=PartitionProgress(5, 6, answer))
    assert watch.stalls.longest() is not None


def test_a_jump_of_the_wall_clock_causes_no_stall(watch: Watch) -> None:
    for answer in [*range(100), *range(-10_000, -9_900), *range(50_000, 50_100)]:
        watch.observe(
            first=PartitionProgress(9, 9, answer), second=PartitionProgress(9, 9, answer + 1)
        )
    assert watch.seconds == 0


def test_a_partition_behind_an_open_transaction_is_measured_but_not_reported(
    watch: Watch,
) -> None:
    for answer in range(100):
        watch.observe(first=PartitionProgress(5, 9, answer, is_behind_transaction=True))
    assert watch.seconds == 99
    assert watch.stalls.longest() is None


def test_a_partition_behind_an_open_transaction_with_a_silent_leader_is_reported(
    watch: Watch,
) -> None:
    for answer in range(400):
        watch.observe(
            first=PartitionProgress(5, 9, 1, is_behind_transaction=True),
            second=PartitionProgress(9, 9, answer),
        )
    assert watch.stalls.longest() is not None


def test_a_partition_with_fetched_records_is_not_stalled_while_others_progress(
    watch: Watch,
) -> None:
    for number in range(200):
        watch.observe(
            first=PartitionProgress(5, 900, 1, is_fetched=True),
            second=PartitionProgress(number, 900, 1),
        )
    assert watch.seconds == 0
    for _ in range(61):  # no partition makes progress any more
        watch.observe(
            first=PartitionProgress(5, 900, 1, is_fetched=True),
            second=PartitionProgress(200, 900, 1),
        )
    assert watch.stalls.longest() is not None
