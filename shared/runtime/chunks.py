"""Cuts work into chunks that are small enough to be done at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunked(items: Sequence[T], limit: int, weight: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Yields `items` in order, in chunks that weigh at most `limit`.

    An item that weighs more is a chunk of its own.
    """
    begin = weighed = 0
    for index, item in enumerate(items):
        weighed += weight(item)
        if weighed > limit and index > begin:
            yield items[begin:index]
            begin, weighed = index, weight(item)
    if begin < len(items):
        yield items[begin:]
