"""The tracker counts each unsettled row once and forgets settled rows."""

from uuid import UUID, uuid4

import pytest

from services.ingest.admission.backlog import BacklogTracker, LagSample
from services.ingest.model import ImportEnd

A, B = uuid4(), uuid4()


def sample(end: int, settled: int, *, at: float = 0.0, partition: int = 0) -> LagSample:
    return LagSample(at, {partition: end}, {partition: settled})


def append(
    tracker: BacklogTracker, workspace: UUID, rows: int, end: int, *, partition: int = 0
) -> None:
    tracker.reserve(workspace, rows)
    tracker.confirm(workspace, rows, ImportEnd(partition, end))


def test_rows_count_from_their_reservation_on() -> None:
    tracker = BacklogTracker()
    tracker.reserve(A, 500)
    assert (tracker.count_rows(A), tracker.count_rows(B), tracker.total_rows) == (500, 0, 500)
    tracker.release(A, 500)
    assert (tracker.count_rows(A), tracker.total_rows) == (0, 0)


def test_rows_that_a_sample_includes_are_not_counted_twice() -> None:
    tracker = BacklogTracker()
    append(tracker, A, 500, end=500)
    assert tracker.total_rows == 500
    tracker.observe(sample(501, 0))
    assert (tracker.count_rows(A), tracker.total_rows) == (500, 501)
    append(tracker, A, 100, end=601)
    assert (tracker.count_rows(A), tracker.total_rows) == (600, 601)
    tracker.observe(sample(602, 0))
    assert tracker.total_rows == 602


def test_rows_that_were_sampled_before_their_append_was_confirmed_are_not_counted_twice() -> None:
    tracker = BacklogTracker()
    tracker.reserve(A, 500)
    tracker.observe(sample(501, 0))
    tracker.confirm(A, 500, ImportEnd(0, 500))
    assert (tracker.count_rows(A), tracker.total_rows) == (500, 501)


def test_rows_before_the_publishers_offset_are_settled_for_their_own_workspace() -> None:
    tracker = BacklogTracker()
    append(tracker, A, 500, end=500)
    append(tracker, B, 20, end=521)
    tracker.observe(sample(522, 499))
    assert (tracker.count_rows(A), tracker.count_rows(B)) == (
        500,
        20,
    )  # an import counts until its last record is processed
    tracker.observe(sample(522, 500))
    assert (tracker.count_rows(A), tracker.count_rows(B), tracker.total_rows) == (0, 20, 22)
    tracker.observe(sample(522, 521))
    assert (tracker.count_rows(B), tracker.total_rows) == (0, 1)  # the record of another import


def test_imports_confirmed_out_of_order_are_settled_in_the_order_of_the_log() -> None:
    tracker = BacklogTracker()
    append(tracker, A, 10, end=30)
    append(tracker, B, 10, end=10)
    tracker.observe(sample(31, 10))
    assert (tracker.count_rows(A), tracker.count_rows(B)) == (10, 0)


def test_the_backlog_from_before_the_start_counts_for_the_system_and_no_workspace() -> None:
    tracker = BacklogTracker()
    tracker.observe(sample(70_000, 20_000))
    assert (tracker.total_rows, tracker.count_rows(A)) == (50_000, 0)


def test_nothing_is_kept_about_workspaces_without_unsettled_rows() -> None:
    tracker = BacklogTracker()
    for _ in range(100):
        append(tracker, uuid4(), 5, end=5)
    tracker.observe(sample(5, 5))
    assert not tracker._rows_by_workspace
    assert not tracker._appended[0]
    assert not tracker._after_sample


def test_the_settlement_rate_is_measured_only_while_the_publisher_is_busy() -> None:
    tracker = BacklogTracker()
    tracker.observe(sample(100_000, 0, at=0))
    assert tracker.settlement_rate is None
    tracker.observe(sample(100_000, 5_000, at=0.5))
    assert tracker.settlement_rate == pytest.approx(10_000)
    tracker.observe(sample(105_001, 105_000, at=1))
    tracker.observe(sample(105_001, 105_000, at=100))
    assert tracker.settlement_rate == pytest.approx(
        10_000
    )  # unchanged: the rate of an idle publisher does not show its speed


def test_the_settlement_rate_of_a_stopped_publisher_falls_to_zero() -> None:
    tracker = BacklogTracker()
    tracker.observe(sample(100_000, 0, at=0))
    tracker.observe(sample(100_000, 5_000, at=0.5))
    for seconds in range(1, 60):
        tracker.observe(sample(100_000, 5_000, at=seconds))
    assert tracker.settlement_rate is not None
    assert tracker.settlement_rate < 1
