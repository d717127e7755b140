"""Work that is cut up is all the work, in order, in as few portions as the limit allows."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.portions import portions
from tests.property.profiles import examples


@examples(100)
@given(st.lists(st.integers(0, 20)), st.integers(0, 30))
def test_portions_are_the_whole_and_no_heavier_than_they_may_be(
    weights: list[int], most: int
) -> None:
    cut = list(portions(weights, most, lambda weight: weight))
    assert [weight for portion in cut for weight in portion] == weights
    assert all(portion and (len(portion) == 1 or sum(portion) <= most) for portion in cut)
    # Nothing that would still have fitted begins another portion
    assert all(sum(portion) + following[0] > most for portion, following in pairwise(cut))
