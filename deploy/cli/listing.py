"""Defines the first items of a list, as a client reads them."""

from typing import Any, NamedTuple


class Listing(NamedTuple):
    items: list[dict[str, Any]]
    total: int | None
    """The number of items in the whole list. None if it takes too long to count them."""
    has_more: bool
