"""Chunks are all the work, in order, and as few as the limit allows."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.chunks import chunked
from tests.property.profiles import examples


@examples(100)
@given(st.lists(st.integers(0, 20)), st.integers(0, 30))
def test_chunks_are_the_whole_and_no_heavier_than_they_may_be(
    weights: list[int], most: int
) -> None:
    cut = list(chunked(weights, most, weights))
    assert [weight for chunk in cut for weight in chunk] == weights
    assert all(chunk and (len(chunk) == 1 or sum(chunk) <= most) for chunk in cut)
    # Nothing that would still have fitted begins another chunk
    assert all(sum(chunk) + following[0] > most for chunk, following in pairwise(cut))
