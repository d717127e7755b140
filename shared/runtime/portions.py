"""Work too large to be done at once, cut up."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def portions(items: Sequence[T], most: int, weight: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """`items` in order, cut where a portion would weigh more than `most`.

    An item that alone weighs more is a portion of its own.
    """
    begin = weighed = 0
    for index, item in enumerate(items):
        weighed += weight(item)
        if weighed > most and index > begin:
            yield items[begin:index]
            begin, weighed = index, weight(item)
    if begin < len(items):
        yield items[begin:]
