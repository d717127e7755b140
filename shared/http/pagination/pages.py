"""One page of a list: asked for, cut, counted, or refused."""

from datetime import datetime, timedelta
from typing import Any, cast

from psycopg.rows import dict_row

from shared.contract.errors import ApiError, ErrorCode
from shared.http.pagination import statements
from shared.http.pagination.cursors import Cursor
from shared.http.pagination.queue import ListQueue
from shared.http.pagination.search import Page, Search, Walk
from shared.postgres.database import Database, DriverConnection
from shared.postgres.row import Row
from shared.runtime.settings import ListSettings

MICROSECOND = timedelta(microseconds=1)
"""Postgres knows no shorter time."""

ONE_MOMENT = "set transaction isolation level repeatable read, read only"
"""For all statements of a page: a row that goes between two of them must not make it complete."""
BY_INDEX = """
    select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
        set_config('jit', 'off', true)
"""
"""For one transaction. A walk reads the workspace's rows and stops where it may, whatever
statistics say: where a workspace has half of the table, a planner would read all of it, or all of
the index first. And a bound of 50 000 rows is no reason to compile.
"""


class Lists:
    """At most `at_once` of them take a connection: what looks at many rows must not keep others
    waiting that look at one.

    Raises ApiError (422) for a search that is too wide, Overloaded (429) when too many of the
    workspace's wait, DatabaseUnavailable when Postgres is away or no turn came.
    """

    def __init__(self, database: Database, settings: ListSettings, *, at_once: int = 1) -> None:
        self._database = database
        self._queue = ListQueue(at_once)
        self._scan_limit = settings.list_scan_limit
        self._count_limit = settings.list_count_limit

    async def page(
        self, search: Search, *, limit: int, offset: int = 0, after: Cursor | None = None
    ) -> Page:
        """So many rows, from `offset` or from behind `after` on.

        Those behind a cursor are not counted: the first page told.
        """
        async with (
            self._queue.slot(search.values["workspace_id"]),
            self._database.pipeline() as driver,
        ):
            await driver.execute(ONE_MOMENT)  # both travel with the first question
            await driver.execute(BY_INDEX)
            asking = _Asking(driver, search, after, self._scan_limit)
            await asking.require_narrow()
            rows = await asking.page(limit + 1, offset)
            unseen = None if len(rows) > limit else await asking.unseen()
            if unseen is not None and len(rows) < limit:
                raise unseen
            more = len(rows) > limit or unseen is not None
            total = None if after is not None else offset + len(rows)
            if after is None and (more or (offset and not rows)):
                total = await asking.count(self._count_limit)
        page = rows[:limit]
        return Page(page, _cursor_of(page[-1], search) if more else None, total)


class _Asking:
    """The statements of one page, in one transaction."""

    def __init__(
        self, driver: DriverConnection, search: Search, after: Cursor | None, scan_limit: int
    ) -> None:
        self._driver = driver
        self._search = search
        self._after = after
        self._most = scan_limit
        self._values = {
            **search.values,
            "since": search.since,
            "until": search.until,
            "most": scan_limit,
        }
        if after is not None:
            self._values |= {
                "after": search.order.last if after.value is None else after.value,
                "after_id": after.id,
            }

    async def require_narrow(self) -> None:
        """Raises ApiError when there are too many rows in a walk that must be gone to its
        end.
        """
        for walk in self._search.walks:
            if walk not in self._search.ordered and (beyond := await self._beyond(walk)):
                raise _too_wide(self._search, walk, beyond, self._most)

    async def page(self, limit: int, offset: int) -> list[Row]:
        """Ends where a walk in the list's order came to its bound: what other walks have behind
        that may not be next.
        """
        rows = await self._ask(
            statements.page(self._search, self._after), limit=limit, offset=offset
        )
        if not rows or rows[-1]["in_order"]:
            return rows
        for walk in self._search.ordered:
            beyond = await self._beyond(walk)
            while beyond and rows and self._search.is_behind(rows[-1], beyond):
                rows.pop()
        return rows

    async def count(self, most: int) -> int | None:
        """None when there are more than `most`, or when that can't be told by looking at what may
        be looked at.
        """
        (found,) = await self._ask(statements.count(self._search), counted=most + 1)
        return None if found["count"] > most or await self.unseen() else int(found["count"])

    async def unseen(self) -> ApiError | None:
        """What to say when there are more rows than a walk in the list's order may look at."""
        for walk in self._search.ordered:
            if beyond := await self._beyond(walk):
                return _too_wide(self._search, walk, beyond, self._most)
        return None

    async def _beyond(self, walk: Walk) -> datetime | None:
        rows = await self._ask(statements.beyond(self._search, walk, self._after))
        return cast("datetime", rows[0]["beyond"]) if rows else None

    async def _ask(self, sql: str, **values: Any) -> list[Row]:
        cursor = self._driver.cursor(binary=True, row_factory=dict_row)
        # Never prepared: a plan that is made once for all reads as much of a workspace of millions
        # as is right for a small one
        await cursor.execute(sql, {**self._values, **values}, prepare=False)
        return list(await cursor.fetchall())


def _cursor_of(row: Row, search: Search) -> Cursor:
    return Cursor(search.order.name, row["sorted_by"], row[search.id])


def _too_wide(search: Search, walk: Walk, beyond: datetime, most: int) -> ApiError:
    if walk.time != search.window:
        message = f"More than {most} rows would have to be looked at. {walk.advice}"
        return ApiError(ErrorCode.SEARCH_TOO_WIDE, message, looked_at=most)
    back = statements.direction(search, walk) == "desc"
    # Of a walk back in time `since` takes the rows that were looked at and `until` the others; of
    # one forth, the other way round
    reached = _iso(beyond + MICROSECOND if back else beyond)
    near, far = ("since", "until") if back else ("until", "since")
    if walk in search.ordered:
        message = (
            f"{most} rows were looked at, and the page is not full. {near}={reached} is answered, "
            f"{far}={reached} goes on from there."
        )
    else:
        message = (
            f"To sort these, more than {most} rows would have to be looked at. Narrow them: "
            f"{near}={reached} is answered."
        )
    return ApiError(ErrorCode.SEARCH_TOO_WIDE, message, looked_at=most, reached=reached)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
