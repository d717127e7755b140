"""The query of a list: its filters, its sort order, and the index scans that find its rows.

All SQL comes from the service. Values from clients are only in `ListQuery.values`, as parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from shared.http.pagination.cursors import Cursor
from shared.postgres.row import Row


class SortKey(NamedTuple):
    """An SQL expression that a list can be sorted by."""

    sql: str
    is_time: bool = False
    is_nullable: bool = False


class SortOrder(NamedTuple):
    """A sort key and its direction. Rows with equal keys are sorted by id, in this direction."""

    name: str
    key: SortKey
    descending: bool = True

    @property
    def direction(self) -> str:
        return "desc" if self.descending else "asc"

    @property
    def null_time(self) -> str:
        """Replaces a null time, so that it sorts last in either direction."""
        return "-infinity" if self.descending else "infinity"

    @property
    def sql(self) -> str:
        if self.key.is_nullable:
            return f"coalesce({self.key.sql}, '{self.null_time}')"
        return self.key.sql


class IndexScan(NamedTuple):
    """A scan of one workspace's rows along an index, in the order of `time_column`."""

    where: str
    """The index's predicate, written as in its migration, or Postgres does not use the index.

    May also bound `time_column`.
    """
    time_column: str
    advice: str = ""
    """The advice in the error about too many rows. Used if `since` and `until` filter by a column
    other than `time_column`."""


@dataclass(frozen=True)
class ListQuery:
    table: str
    id_column: str
    scans: Sequence[IndexScan]
    """Scans that together find every row of the list, each row once."""
    order: SortOrder
    window_column: str
    """The time column that `since` and `until` filter by."""
    since: datetime | None = None
    until: datetime | None = None
    conditions: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    """The workspace_id, and the parameters of the conditions."""
    columns: str = "w.*"
    """Columns of the table, whose alias is w. They include `in_order`."""
    extra_columns: str = "null as nothing"
    """Further SQL expressions to select."""

    @property
    def ordered_scans(self) -> list[IndexScan]:
        """The scans that run in the list's order and stop when the page is full.

        All other scans must read all their rows.
        """
        return [scan for scan in self.scans if scan.time_column == self.order.key.sql]

    def may_follow_unscanned(self, row: Row, first_unscanned: datetime) -> bool:
        """Returns whether a row may sort after rows that an ordered scan did not read.

        `first_unscanned` is the time of the first such row. Rows that an ordered scan has read
        never follow them.
        """
        sorts_before = (
            row["sorted_by"] > first_unscanned
            if self.order.descending
            else row["sorted_by"] < first_unscanned
        )
        return not (row["in_order"] or sorts_before)


class Page(NamedTuple):
    rows: list[Row]
    next_cursor: Cursor | None = None
    """The start of the next page, if there is one."""
    total: int | None = None
    """The number of rows in all pages, if they were counted."""


EMPTY_PAGE = Page([], None, 0)
