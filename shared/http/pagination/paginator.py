"""Reads and counts one page of a list, or rejects a query that must scan too many rows."""

from datetime import datetime, timedelta
from typing import Any, cast

from psycopg.rows import dict_row

from shared.contract.errors import ApiError, ErrorCode
from shared.http.pagination import statements
from shared.http.pagination.cursors import Cursor
from shared.http.pagination.list_query import IndexScan, ListQuery, Page
from shared.http.pagination.queue import ListQueue
from shared.postgres.database import Database, DriverConnection
from shared.postgres.row import Row
from shared.runtime.settings import ListSettings

MICROSECOND = timedelta(microseconds=1)
"""The resolution of Postgres' times."""

USE_ONE_SNAPSHOT = "set transaction isolation level repeatable read, read only"
"""Gives all statements of a page one snapshot.

Otherwise a row that is deleted between two of them could make an incomplete page look complete.
"""
USE_INDEXES = """
    select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
        set_config('jit', 'off', true)
"""
"""Makes Postgres scan along the index and stop at the limit, in one transaction.

Where one workspace has half of the table's rows, the planner would otherwise read the whole table,
or the whole index first. JIT compilation does not pay off for at most 50 000 rows.
"""


class Paginator:
    """Reads pages of lists. At most `concurrency` pages use a connection at once.

    So wide queries leave connections for requests that read one row. Raises ApiError (422) if
    a query must scan too many rows, Overloaded (429) if too many lists of the workspace run or
    wait, and DatabaseUnavailable if Postgres is down or no connection became free in time.
    """

    def __init__(self, database: Database, settings: ListSettings, *, concurrency: int = 1) -> None:
        self._database = database
        self._queue = ListQueue(concurrency)
        self._scan_limit = settings.list_scan_limit
        self._count_limit = settings.list_count_limit

    async def page(
        self, query: ListQuery, *, limit: int, offset: int = 0, after: Cursor | None = None
    ) -> Page:
        """Reads at most `limit` rows, from `offset` or after the cursor `after`.

        Counts the rows of all pages only if `after` is None: the first page has the total.
        """
        async with (
            self._queue.slot(query.values["workspace_id"]),
            self._database.pipeline() as driver,
        ):
            # The pipeline sends both together with the first query
            await driver.execute(USE_ONE_SNAPSHOT)
            await driver.execute(USE_INDEXES)
            reader = _PageReader(driver, query, after, self._scan_limit)
            await reader.check_unordered_scans()
            rows = await reader.read(limit + 1, offset)
            scan_error = None if len(rows) > limit else await reader.find_scan_error()
            if scan_error is not None and len(rows) < limit:
                raise scan_error
            has_more = len(rows) > limit or scan_error is not None
            total = None if after is not None else offset + len(rows)
            if after is None and (has_more or (offset and not rows)):
                total = await reader.count(self._count_limit)
        page = rows[:limit]
        return Page(page, _build_cursor(page[-1], query) if has_more else None, total)


class _PageReader:
    """Executes the statements of one page, in one transaction."""

    def __init__(
        self, driver: DriverConnection, query: ListQuery, after: Cursor | None, scan_limit: int
    ) -> None:
        self._driver = driver
        self._query = query
        self._after = after
        self._scan_limit = scan_limit
        self._values = {
            **query.values,
            "since": query.since,
            "until": query.until,
            "scan_limit": scan_limit,
        }
        if after is not None:
            self._values |= {
                "after": query.order.null_time if after.value is None else after.value,
                "after_id": after.id,
            }

    async def check_unordered_scans(self) -> None:
        """Raises ApiError if a scan that must read all its rows has more than the limit."""
        for scan in self._query.scans:
            if scan in self._query.ordered_scans:
                continue
            first_unscanned = await self._find_first_unscanned(scan)
            if first_unscanned is not None:
                raise _too_wide(self._query, scan, first_unscanned, self._scan_limit)

    async def read(self, limit: int, offset: int) -> list[Row]:
        """Reads the page's rows.

        Stops early where an ordered scan reached its limit: rows of other scans that sort after
        that point may not be the next ones.
        """
        rows = await self._execute(
            statements.select_page(self._query, self._after), limit=limit, offset=offset
        )
        if not rows or rows[-1]["in_order"]:
            return rows
        for scan in self._query.ordered_scans:
            first_unscanned = await self._find_first_unscanned(scan)
            while (
                first_unscanned is not None
                and rows
                and self._query.may_follow_unscanned(rows[-1], first_unscanned)
            ):
                rows.pop()
        return rows

    async def count(self, limit: int) -> int | None:
        """Counts the rows of all pages.

        Returns None if there are more than `limit`, or if the scan limit hides some of them.
        """
        (row,) = await self._execute(statements.count_rows(self._query), count_limit=limit + 1)
        return None if row["count"] > limit or await self.find_scan_error() else int(row["count"])

    async def find_scan_error(self) -> ApiError | None:
        """Builds the error to raise if an ordered scan has more rows than it may read."""
        for scan in self._query.ordered_scans:
            first_unscanned = await self._find_first_unscanned(scan)
            if first_unscanned is not None:
                return _too_wide(self._query, scan, first_unscanned, self._scan_limit)
        return None

    async def _find_first_unscanned(self, scan: IndexScan) -> datetime | None:
        rows = await self._execute(
            statements.select_first_unscanned(self._query, scan, self._after)
        )
        return cast("datetime", rows[0]["first_unscanned"]) if rows else None

    async def _execute(self, sql: str, **values: Any) -> list[Row]:
        cursor = self._driver.cursor(binary=True, row_factory=dict_row)
        # Never prepared: a generic plan is made for a small workspace, and would be slow for one
        # with millions of rows
        await cursor.execute(sql, {**self._values, **values}, prepare=False)
        return list(await cursor.fetchall())


def _build_cursor(row: Row, query: ListQuery) -> Cursor:
    return Cursor(query.order.name, row["sorted_by"], row[query.id_column])


def _too_wide(
    query: ListQuery, scan: IndexScan, first_unscanned: datetime, scan_limit: int
) -> ApiError:
    too_many = f"This list would have to scan more than {scan_limit} rows."
    if scan.time_column != query.window_column:
        return ApiError(
            ErrorCode.SEARCH_TOO_WIDE, f"{too_many} {scan.advice}", looked_at=scan_limit
        )
    is_backward = statements.scan_direction(query, scan) == "desc"
    # A backward scan has read the rows from `reached` on, not the rows before it. A forward scan
    # has read the rows before `reached`
    reached = _format_time(first_unscanned + MICROSECOND if is_backward else first_unscanned)
    scanned, unscanned = ("since", "until") if is_backward else ("until", "since")
    if scan in query.ordered_scans:
        message = (
            f"This list scanned {scan_limit} rows and the page is not full. Send "
            f"{scanned}={reached} for the matches so far, then {unscanned}={reached} for the rest."
        )
    else:
        message = (
            f"{too_many} It must read all matches before it can sort them. Send "
            f"{scanned}={reached} to narrow it."
        )
    return ApiError(ErrorCode.SEARCH_TOO_WIDE, message, looked_at=scan_limit, reached=reached)


def _format_time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
