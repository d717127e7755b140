"""Builds the SQL of one page. `%(scan_limit)s` is the most rows that a scan may read."""

from shared.http.pagination.cursors import Cursor
from shared.http.pagination.list_query import IndexScan, ListQuery


def select_page(query: ListQuery, after: Cursor | None) -> str:
    order = query.order
    scanned = " union all ".join(f"({_scan_rows(query, scan, after)})" for scan in query.scans)
    return f"""
        select {query.columns}, {query.extra_columns}, {order.key.sql} as sorted_by
        from ({scanned}) w where {_conditions(query, after)}
        order by {order.sql} {order.direction}, {query.id_column} {order.direction}
        limit %(limit)s offset %(offset)s
    """


def count_rows(query: ListQuery) -> str:
    """Counts the rows of all pages, up to `%(count_limit)s`."""
    scanned = " union all ".join(
        f"(select * {_rows(query, scan, None)} limit %(scan_limit)s)" for scan in query.scans
    )
    return (
        f"select count(*) as count from (select from ({scanned}) w where "
        f"{_conditions(query, None)} limit %(count_limit)s) c"
    )


def select_first_unscanned(query: ListQuery, scan: IndexScan, after: Cursor | None) -> str:
    """Selects the time of the first row beyond the scan limit."""
    sorting = f"order by {scan.time_column} {scan_direction(query, scan)}"
    return (
        f"select {scan.time_column} as first_unscanned {_rows(query, scan, after)} {sorting} "
        "offset %(scan_limit)s limit 1"
    )


def scan_direction(query: ListQuery, scan: IndexScan) -> str:
    """Returns the list's direction for an ordered scan, else `desc`: newest rows first."""
    return query.order.direction if scan in query.ordered_scans else "desc"


def _scan_rows(query: ListQuery, scan: IndexScan, after: Cursor | None) -> str:
    in_order = scan in query.ordered_scans
    rows = f"select *, {in_order} as in_order {_rows(query, scan, after)}"
    if not in_order:
        return rows
    return (
        f"{rows} order by {scan.time_column} {query.order.direction}, {query.id_column} "
        f"{query.order.direction} limit %(scan_limit)s"
    )


def _rows(query: ListQuery, scan: IndexScan, after: Cursor | None) -> str:
    bounds = ["workspace_id = %(workspace_id)s", scan.where]
    if scan.time_column == query.window_column:
        bounds += _window(query)
    if scan in query.ordered_scans and after is not None:
        # Repeats a condition of the whole query: here it sets where the index scan starts
        bounds.append(_after_cursor(query))
    return f"from {query.table} where {' and '.join(bounds)}"


def _conditions(query: ListQuery, after: Cursor | None) -> str:
    conditions = [*query.conditions, *_window(query)]
    if after is not None:
        conditions.append(_after_cursor(query))
    return " and ".join(conditions) or "true"


def _after_cursor(query: ListQuery) -> str:
    order, type_name = query.order, "timestamptz" if query.order.key.is_time else "text"
    return (
        f"({order.sql}, {query.id_column}) {'<' if order.descending else '>'} (cast(%(after)s as "
        f"{type_name}), %(after_id)s)"
    )


def _window(query: ListQuery) -> list[str]:
    bounds = (
        (query.since, f"{query.window_column} >= %(since)s"),
        (query.until, f"{query.window_column} < %(until)s"),
    )
    return [sql for value, sql in bounds if value is not None]
