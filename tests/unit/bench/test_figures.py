"""Summaries of several rounds, and percentiles."""

import pytest

from tests.tools.bench.figures import find_median, summarize
from tests.tools.bench.measure import compute_percentiles, summarize_latencies


def test_numbers_are_summarized_by_median_and_range_in_their_groups() -> None:
    rounds = [
        {"rows": rows, "cpu": {"kafka": rows / 10}, "curve": [1], "name": "x"}
        for rows in (10, 40, 20)
    ]
    assert summarize(rounds) == {
        "rows": {"median": 20, "min": 10, "max": 40},
        "cpu": {"kafka": {"median": 2, "min": 1, "max": 4}},
    }


def test_a_number_that_a_round_lacks_is_left_out() -> None:
    assert summarize([{"a": 1, "b": 1}, {"a": 1}]) == {"a": {"median": 1, "min": 1, "max": 1}}


def test_a_median_is_found_by_its_path() -> None:
    summary = summarize([{"cpu": {"kafka": 7}}])
    assert find_median(summary, "cpu", "kafka") == 7
    assert find_median(summary, "cpu", "postgres") is None
    assert find_median(summary, "rows") is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 1, 1, 1)), (100, (50, 90, 99, 100)), (1000, (500, 900, 990, 1000))],
)
def test_percentiles_use_the_nearest_rank(count: int, expected: tuple[float, ...]) -> None:
    seconds = [number / 1000 for number in range(count, 0, -1)]
    assert tuple(compute_percentiles(seconds).values()) == expected


def test_no_latencies_give_no_percentiles() -> None:
    assert summarize_latencies([]) == {"n": 0, "curve": []}
