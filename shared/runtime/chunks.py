"""Cuts work into chunks. Between two chunks, other tasks can run."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunked(
    items: Sequence[T], limit: int, weights: Sequence[int] | None = None
) -> Iterator[Sequence[T]]:
    """Yields `items` in order, in chunks that weigh at most `limit`.

    `weights` has one weight per item. Without it, each item weighs 1. An item that weighs more
    than `limit` is a chunk of its own.
    """
    start = chunk_weight = 0
    for index, weight in enumerate([1] * len(items) if weights is None else weights):
        chunk_weight += weight
        if chunk_weight > limit and index > start:
            yield items[start:index]
            start, chunk_weight = index, weight
    if start < len(items):
        yield items[start:]
