"""The figures that admission goes by: nothing counted twice, nothing forgotten, nothing kept for
ever.
"""

from uuid import UUID, uuid4

import pytest

from services.ingest.admission.backlog import Position, Reading, Unsettled

A, B = uuid4(), uuid4()


def reading(end: int, settled: int, *, at: float = 0.0, partition: int = 0) -> Reading:
    return Reading(at, {partition: end}, {partition: settled})


def placed(figures: Unsettled, workspace: UUID, rows: int, end: int, *, partition: int = 0) -> None:
    figures.take(workspace, rows)
    figures.place(workspace, rows, Position(partition, end))


def test_rows_count_from_the_moment_that_they_are_taken() -> None:
    figures = Unsettled()
    figures.take(A, 500)
    assert (figures.of(A), figures.of(B), figures.total) == (500, 0, 500)
    figures.give_back(A, 500)
    assert (figures.of(A), figures.total) == (0, 0)


def test_rows_that_a_reading_has_are_not_counted_twice() -> None:
    figures = Unsettled()
    placed(figures, A, 500, end=500)
    assert figures.total == 500
    figures.observe(reading(501, 0))
    assert (figures.of(A), figures.total) == (500, 501)
    placed(figures, A, 100, end=601)
    assert (figures.of(A), figures.total) == (600, 601)
    figures.observe(reading(602, 0))
    assert figures.total == 602


def test_rows_that_a_reading_saw_before_their_append_was_answered_are_not_counted_twice() -> None:
    figures = Unsettled()
    figures.take(A, 500)
    figures.observe(reading(501, 0))
    figures.place(A, 500, Position(0, 500))
    assert (figures.of(A), figures.total) == (500, 501)


def test_what_the_publisher_is_past_is_settled_each_workspace_its_own() -> None:
    figures = Unsettled()
    placed(figures, A, 500, end=500)
    placed(figures, B, 20, end=521)
    figures.observe(reading(522, 499))
    assert (figures.of(A), figures.of(B)) == (500, 20)  # a part of an import is not settled
    figures.observe(reading(522, 500))
    assert (figures.of(A), figures.of(B), figures.total) == (0, 20, 22)
    figures.observe(reading(522, 521))
    assert (figures.of(B), figures.total) == (0, 1)  # a record of the next import


def test_appends_that_end_in_another_order_than_they_stand_are_settled_in_that_of_the_log() -> None:
    figures = Unsettled()
    placed(figures, A, 10, end=30)
    placed(figures, B, 10, end=10)
    figures.observe(reading(31, 10))
    assert (figures.of(A), figures.of(B)) == (10, 0)


def test_the_backlog_of_before_is_in_the_systems_figure_and_in_no_workspaces() -> None:
    figures = Unsettled()
    figures.observe(reading(70_000, 20_000))
    assert (figures.total, figures.of(A)) == (50_000, 0)


def test_nothing_is_kept_of_workspaces_that_have_nothing_unsettled() -> None:
    figures = Unsettled()
    for _ in range(100):
        placed(figures, uuid4(), 5, end=5)
    figures.observe(reading(5, 5))
    assert not figures._of_workspace
    assert not figures._standing[0]
    assert not figures._unread


def test_the_rate_is_that_of_a_busy_publisher() -> None:
    figures = Unsettled()
    figures.observe(reading(100_000, 0, at=0))
    assert figures.rate is None
    figures.observe(reading(100_000, 5_000, at=0.5))
    assert figures.rate == pytest.approx(10_000)
    figures.observe(reading(105_001, 105_000, at=1))
    figures.observe(reading(105_001, 105_000, at=100))
    assert figures.rate == pytest.approx(
        10_000
    )  # idle since: that says nothing of what it could do


def test_the_rate_of_a_publisher_that_stopped_goes_to_nothing() -> None:
    figures = Unsettled()
    figures.observe(reading(100_000, 0, at=0))
    figures.observe(reading(100_000, 5_000, at=0.5))
    for seconds in range(1, 60):
        figures.observe(reading(100_000, 5_000, at=seconds))
    assert figures.rate is not None
    assert figures.rate < 1
