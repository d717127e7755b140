"""What a list is to hold, and in which order.

All SQL is this repository's; what a client sent stands in `values`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from shared.http.pagination.cursors import Cursor
from shared.postgres.row import Row


class Key(NamedTuple):
    """What a list can be sorted by."""

    sql: str
    is_time: bool = False
    is_nullable: bool = False


class Order(NamedTuple):
    """Rows that are equal in it go by their ids, in the same direction."""

    name: str
    key: Key
    descending: bool = True

    @property
    def direction(self) -> str:
        return "desc" if self.descending else "asc"

    @property
    def last(self) -> str:
        """Instead of a time that is not there, which comes last in either direction."""
        return "-infinity" if self.descending else "infinity"

    @property
    def sql(self) -> str:
        return f"coalesce({self.key.sql}, '{self.last}')" if self.key.is_nullable else self.key.sql


class Walk(NamedTuple):
    """Rows of one workspace as an index has them: in the order of `time`."""

    where: str
    """The index's own predicate as its migration has it, or Postgres does not see that the index
    will do; a bound of `time` beside it.
    """
    time: str
    advice: str = ""
    """What else may be asked when there are too many rows, where `time` is not what since and until
    are about.
    """


@dataclass(frozen=True)
class Search:
    table: str
    id: str
    walks: Sequence[Walk]
    """No row is in two of them."""
    order: Order
    window: str
    """The time that since and until are about."""
    since: datetime | None = None
    until: datetime | None = None
    conditions: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    """workspace_id, and what the conditions name."""
    shown: str = "w.*"
    """Columns of the table, which is called w; `in_order` is to be among them."""
    also: str = "null as nothing"
    """Further columns."""

    @property
    def ordered(self) -> list[Walk]:
        """Walks that go in the list's order, as far as it takes.

        The others have to be gone to their ends.
        """
        return [walk for walk in self.walks if walk.time == self.order.key.sql]

    def is_behind(self, row: Row, beyond: datetime) -> bool:
        """Whether it may come after what a walk in the list's order had no more look at: rows of
        such walks never do.
        """
        is_before = (
            row["sorted_by"] > beyond if self.order.descending else row["sorted_by"] < beyond
        )
        return not (row["in_order"] or is_before)


class Page(NamedTuple):
    rows: list[Row]
    next: Cursor | None = None
    """Where the next page begins, if there are more."""
    total: int | None = None
    """How many rows there are in all pages, if that was counted."""


NOTHING = Page([], None, 0)
