"""The start of a partition, from the stored position and the offsets in Kafka."""

import pytest

from shared.kafka.positions.rules import (
    PartitionLog,
    PartitionStart,
    Refusal,
    StoredPosition,
    compare_with_log,
)

CLUSTER = "cluster-1"


def compare(
    stored: int,
    committed: int | None,
    *,
    begin: int = 0,
    end: int = 100,
    cluster: str = CLUSTER,
    refused: Refusal | None = None,
) -> PartitionStart | Refusal:
    position = StoredPosition(stored, cluster, refused=refused)
    return compare_with_log(position, PartitionLog(begin, end, committed), CLUSTER)


def test_invariant_2_a_consumer_starts_at_the_lower_of_stored_and_committed() -> None:
    assert compare(40, 40) == PartitionStart(40, None)
    assert compare(40, 30) == PartitionStart(
        30, None
    )  # a batch was stored, and its outcomes may be missing
    assert compare(30, 40) == PartitionStart(30, replay_until=40)  # Postgres is older


def test_a_missing_committed_offset_counts_as_the_beginning() -> None:
    assert compare(40, None, begin=10) == PartitionStart(10, None)


def test_a_committed_offset_whose_records_are_gone_counts_as_the_beginning() -> None:
    assert compare(40, 5, begin=10) == PartitionStart(10, None)


def test_a_committed_offset_beyond_the_end_counts_as_the_end() -> None:
    """After restores of both Kafka and Postgres, neither has the records beyond the end."""
    assert compare(40, 200) == PartitionStart(40, replay_until=100)
    assert compare(100, 200) == PartitionStart(100, None)


@pytest.mark.parametrize(
    ("stored", "begin", "end", "cluster", "refusal"),
    [
        (9, 10, 100, CLUSTER, Refusal.BEFORE_BEGIN),
        (101, 0, 100, CLUSTER, Refusal.BEYOND_END),
        (40, 0, 100, "another", Refusal.OTHER_CLUSTER),
        (500, 0, 100, "another", Refusal.OTHER_CLUSTER),
    ],
)
def test_a_position_that_does_not_fit_the_log_is_refused(
    stored: int, begin: int, end: int, cluster: str, refusal: Refusal
) -> None:
    assert compare(stored, 40, begin=begin, end=end, cluster=cluster) is refusal


@pytest.mark.parametrize(("stored", "begin", "end"), [(10, 10, 100), (100, 0, 100), (0, 0, 0)])
def test_a_position_at_either_end_of_the_log_fits(stored: int, begin: int, end: int) -> None:
    assert compare(stored, stored, begin=begin, end=end) == PartitionStart(stored, None)


def test_a_refusal_stays_although_the_log_has_grown_past_the_position() -> None:
    assert compare(40, 40, refused=Refusal.BEYOND_END) is Refusal.BEYOND_END
