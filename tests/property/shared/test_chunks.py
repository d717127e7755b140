"""Chunks contain all items in order, and are as few as the limit allows."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.chunks import chunked
from tests.property.profiles import examples


@examples(100)
@given(st.lists(st.integers(0, 20)), st.integers(0, 30))
def test_chunks_contain_all_items_within_the_limit(weights: list[int], limit: int) -> None:
    chunks = list(chunked(weights, limit, weights))
    assert [weight for chunk in chunks for weight in chunk] == weights
    assert all(chunk and (len(chunk) == 1 or sum(chunk) <= limit) for chunk in chunks)
    # No chunk starts with an item that would have fitted into the one before
    assert all(sum(chunk) + following[0] > limit for chunk, following in pairwise(chunks))
