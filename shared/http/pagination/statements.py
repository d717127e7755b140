"""The SQL of one page. `%(most)s` is how many rows a walk may look at."""

from shared.http.pagination.cursors import Cursor
from shared.http.pagination.search import Search, Walk


def page(search: Search, after: Cursor | None) -> str:
    order = search.order
    walked = " union all ".join(f"({_walked(search, walk, after)})" for walk in search.walks)
    return f"""
        select {search.shown}, {search.also}, {order.key.sql} as sorted_by
        from ({walked}) w where {_conditions(search, after)}
        order by {order.sql} {order.direction}, {search.id} {order.direction}
        limit %(limit)s offset %(offset)s
    """


def count(search: Search) -> str:
    """How many rows there are in all pages, up to `%(counted)s`."""
    walked = " union all ".join(
        f"(select * {_rows(search, walk, None)} limit %(most)s)" for walk in search.walks
    )
    return (
        f"select count(*) as count from (select from ({walked}) w where "
        f"{_conditions(search, None)} limit %(counted)s) c"
    )


def beyond(search: Search, walk: Walk, after: Cursor | None) -> str:
    """The time of the first row that may not be looked at any more."""
    sorting = f"order by {walk.time} {direction(search, walk)}"
    return (
        f"select {walk.time} as beyond {_rows(search, walk, after)} {sorting} offset %(most)s "
        "limit 1"
    )


def direction(search: Search, walk: Walk) -> str:
    """In which a walk is gone: the list's, or back in time."""
    return search.order.direction if walk in search.ordered else "desc"


def _walked(search: Search, walk: Walk, after: Cursor | None) -> str:
    in_order = walk in search.ordered
    rows = f"select *, {in_order} as in_order {_rows(search, walk, after)}"
    if not in_order:
        return rows
    return (
        f"{rows} order by {walk.time} {search.order.direction}, {search.id} "
        f"{search.order.direction} limit %(most)s"
    )


def _rows(search: Search, walk: Walk, after: Cursor | None) -> str:
    bounds = ["workspace_id = %(workspace_id)s", walk.where]
    if walk.time == search.window:
        bounds += _window(search)
    if walk in search.ordered and after is not None:
        bounds.append(
            _behind(search)
        )  # in the conditions, too; here it is where the index begins to be read
    return f"from {search.table} where {' and '.join(bounds)}"


def _conditions(search: Search, after: Cursor | None) -> str:
    conditions = [*search.conditions, *_window(search)]
    if after is not None:
        conditions.append(_behind(search))
    return " and ".join(conditions) or "true"


def _behind(search: Search) -> str:
    order, kind = search.order, "timestamptz" if search.order.key.is_time else "text"
    return (
        f"({order.sql}, {search.id}) {'<' if order.descending else '>'} (cast(%(after)s as "
        f"{kind}), %(after_id)s)"
    )


def _window(search: Search) -> list[str]:
    bounds = (
        (search.since, f"{search.window} >= %(since)s"),
        (search.until, f"{search.window} < %(until)s"),
    )
    return [sql for value, sql in bounds if value is not None]
