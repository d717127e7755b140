"""Chunks contain all items in their order."""

import pytest

from shared.runtime.chunks import chunked


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([], []),
        ([4, 4], [[4, 4]]),
        ([10], [[10]]),
        ([5, 5, 1], [[5, 5], [1]]),
        ([11, 1, 12], [[11], [1], [12]]),
        ([6, 6, 4, 1], [[6], [6, 4], [1]]),
    ],
)
def test_a_chunk_exceeds_the_limit_only_if_it_is_a_single_item(
    weights: list[int], expected: list[list[int]]
) -> None:
    assert [list(chunk) for chunk in chunked(weights, 10, weights)] == expected


def test_items_without_weights_weigh_one_each() -> None:
    assert [list(chunk) for chunk in chunked("abcde", 2)] == [["a", "b"], ["c", "d"], ["e"]]
