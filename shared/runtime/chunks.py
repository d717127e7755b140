"""Cuts work into chunks that are small enough to be done at once."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunked(
    items: Sequence[T], limit: int, weights: Sequence[int] | None = None
) -> Iterator[Sequence[T]]:
    """Yields `items` in order, in chunks that weigh at most `limit`.

    `weights` has one for each item; without it, each weighs 1. An item that weighs more than
    `limit` is a chunk of its own.
    """
    begin = weighed = 0
    for index, weight in enumerate([1] * len(items) if weights is None else weights):
        weighed += weight
        if weighed > limit and index > begin:
            yield items[begin:index]
            begin, weighed = index, weight
    if begin < len(items):
        yield items[begin:]
