"""Query plans of lists on a table of a hundred thousand rows: their indexes and the rows read."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from services.ingest.ids import new_job_id
from services.publisher.pins.deferral_reader import DeferralReader
from services.publisher.pins.lists.filters import PinFilters, ScheduleFilters
from services.publisher.pins.lists.service import PinListService
from services.publisher.pins.lists.sorting import PinSort, ScheduleSort
from services.status.lists import ImportFilters, ImportLists
from shared.contract.errors import ApiError
from shared.http.pagination import paginator
from shared.http.pagination.cursors import Cursor, write_cursor
from shared.http.pagination.paginator import Paginator
from shared.postgres.database import Database
from shared.runtime.settings import ListSettings
from tests.integration.publisher.catalogue import ACCOUNTS, BEGINNING, DISTANT
from tests.support.listing import build_principal

MAX_SCANNED = 20_000
MAX_TIES = 5
"""Maximum rows with equal times that are read beyond the limit, at a cursor or at the end."""
MAX_READ_AHEAD = 100
"""Maximum rows read for a page of fifty. Postgres 18 sorts rows of equal times in groups of at
least 32.
"""
LARGE, MIDDLING, SMALL = UUID(int=101), UUID(int=102), UUID(int=103)
SIZES = {
    LARGE: 60_000,
    MIDDLING: 15_000,
    SMALL: 500,
    **{UUID(int=number): 2_500 for number in range(201, 211)},
}
INDEXES = {
    "pins_shown",
    "pins_not_shown",
    "pins_failed",
    "pins_scheduled",
    "pins_waiting",
    "pins_delivering",
    "pins_delivering_schedules",
    "pins_removed",
    "jobs_of_workspace",
}
JOB_ID = new_job_id(BEGINNING.replace(hour=14))
MAX_READ_OF_JOB = 5
"""Maximum rows that a list of one job reads. The catalogue has one pin a second."""

# Rows of workspaces alternate, as they publish at the same time: each page of the table has rows of
# several workspaces
INSERT_PINS = text("""
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, run_at, published_at, failed_at,
        error_code, state, idempotency_key, board_id, title, description, link_url
    )
    select gen_random_uuid(), w.id, ('00000000-0000-0000-0000-00000000000' || 1 + n % 3)::uuid,
        gen_random_uuid(),
        :noon + n * interval '1 second',
        case s.state when 'scheduled'
            then case when n % 40 = 0 then :distant else :noon end + n * interval '1 second' end,
        case s.state when 'published' then :noon + n * interval '1 second' end,
        case s.state when 'failed' then :noon end,
        case s.state when 'failed' then 'board_not_found' end, s.state,
        n::text, 'board-' || n % 5, 'Lamp ' || n, 'Warm light', 'https://shop.example/' || n
    from unnest(cast(:ids as uuid[]), cast(:sizes as int[])) as w(id, size)
    cross join lateral generate_series(1, w.size) as n
    cross join lateral (
        select case when n % 50 = 0 then 'failed' when n % 20 = 0 then 'scheduled'
            else 'published' end as state
    ) s
    order by n, w.id
""")
INSERT_JOBS = text("""
    insert into status.jobs (
        job_id, workspace_id, accepted_at, total_rows, source_type, status, completed_at
    )
    select gen_random_uuid(), w.id, :noon + n * interval '1 second', 0, 'json', 'completed', :noon
    from unnest(cast(:ids as uuid[]), cast(:sizes as int[])) as w(id, size)
    cross join lateral generate_series(1, w.size / 5) as n
    order by n, w.id
""")
ANALYZE = text("analyze publisher.pins, status.jobs")

Node = dict[str, Any]


@dataclass
class Plans:
    """The plans of the lists' statements, as they were executed."""

    seen: list[tuple[str, Node]] = field(default_factory=list)

    def scans(self) -> Iterator[tuple[str, Node]]:
        for statement, plan in self.seen:
            for node in _nodes(plan):
                if node["Node Type"].endswith("Scan") and node["Node Type"] != "Subquery Scan":
                    yield statement, node


def make_lists(database: Database, **limits: Any) -> PinListService:
    paginator = Paginator(database, ListSettings(**limits))
    return PinListService(paginator, DeferralReader(database, "simulated"))


def _nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def catalogue(database: Database) -> Database:
    values = {
        "noon": BEGINNING,
        "distant": DISTANT,
        "ids": list(SIZES),
        "sizes": list(SIZES.values()),
    }
    async with database.transaction(extra_timeout_seconds=120) as connection:
        await connection.execute(INSERT_PINS, values)
        await connection.execute(INSERT_JOBS, values)
        await connection.execute(ANALYZE)
    return database


@pytest_asyncio.fixture(loop_scope="module")
async def plans(catalogue: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plans]:
    """Collects the plans: each statement is also explained, in its transaction and settings."""
    plans, execute = Plans(), paginator._PageReader._execute

    async def execute_and_explain(page_reader: Any, sql: str, **values: Any) -> Any:
        (row,) = await execute(page_reader, f"explain (analyze, format json) {sql}", **values)
        plans.seen.append((sql, row["QUERY PLAN"][0]["Plan"]))
        return await execute(page_reader, sql, **values)

    monkeypatch.setattr(paginator._PageReader, "_execute", execute_and_explain)
    yield plans


def build_cursor(name: str, sort: str) -> str:
    """Builds a cursor in the middle of the list."""
    value = {"title": "lamp 3", "status": "published"}.get(
        sort.rpartition("_")[0], BEGINNING.replace(hour=13)
    )
    return write_cursor(Cursor(f"{name}.{sort}", value, UUID(int=2**127)))


def combine_queries(filters: list[Mapping[str, Any]], sorts: Any) -> list[Any]:
    """Combines each filter with two orders that have different plans.

    Adds every order without a filter.
    """
    queries = [dict(filter_, sort=sort) for filter_, sort in product(filters, list(sorts)[:2])]
    return [*queries, *({"sort": sort} for sort in sorts)]


PIN_QUERIES = combine_queries(
    [
        {"account_id": ACCOUNTS[0]},
        {"q": "lamp 77"},
        {"q": "nowhere"},
        {"error_code": "board_not_found"},
        {"since": "2020-01-01T14:00:00Z", "until": "2020-01-01T15:00:00Z", "board_id": "board-1"},
        *({"status": status} for status in ("queued", "published", "failed")),
    ],
    PinSort,
)
SCHEDULE_QUERIES = combine_queries(
    [
        {"q": "lamp 77"},
        {"since": "2020-01-01T12:00:00Z", "until": "2120-01-01T00:00:00Z"},
        *({"status": status} for status in ("scheduled", "queued", "done", "failed")),
    ],
    ScheduleSort,
)


async def read_page(page: Any) -> None:
    with suppress(ApiError):  # the search is too wide: the rows read until then count as well
        await page


def require_bounded(plans: Plans) -> None:
    assert plans.seen
    for statement, node in plans.scans():
        details = f"{node}\n{statement}"
        assert node.get("Index Name") in INDEXES, details
        assert "workspace_id = " in node.get("Index Cond", ""), details
        looked_at = (
            node["Actual Rows"]
            + node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Index Recheck", 0)
        )
        assert looked_at * node["Actual Loops"] <= MAX_SCANNED + MAX_TIES, details


@pytest.mark.parametrize("query", PIN_QUERIES, ids=str)
@pytest.mark.parametrize(
    "workspace_id", [LARGE, MIDDLING, SMALL], ids=["large", "middling", "small"]
)
async def test_no_list_of_pins_scans_another_workspaces_rows(
    catalogue: Database, plans: Plans, workspace_id: UUID, query: dict[str, Any]
) -> None:
    lists = make_lists(catalogue, list_scan_limit=MAX_SCANNED)
    for page in ({}, {"offset": 300}, {"cursor": build_cursor("pins", query["sort"])}):
        await read_page(lists.list_pins(build_principal(workspace_id), PinFilters(**query, **page)))
    require_bounded(plans)


@pytest.mark.parametrize("query", SCHEDULE_QUERIES, ids=str)
@pytest.mark.parametrize(
    "workspace_id", [LARGE, MIDDLING, SMALL], ids=["large", "middling", "small"]
)
async def test_no_list_of_schedules_scans_another_workspaces_rows(
    catalogue: Database, plans: Plans, workspace_id: UUID, query: dict[str, Any]
) -> None:
    lists = make_lists(catalogue, list_scan_limit=MAX_SCANNED)
    for page in ({}, {"offset": 300}, {"cursor": build_cursor("schedules", query["sort"])}):
        await read_page(
            lists.list_schedules(build_principal(workspace_id), ScheduleFilters(**query, **page))
        )
    require_bounded(plans)


@pytest.mark.parametrize("sort", [*PinSort, *ScheduleSort])
async def test_a_list_of_one_job_reads_only_pins_of_its_millisecond(
    catalogue: Database, plans: Plans, sort: str
) -> None:
    lists, principal = make_lists(catalogue), build_principal(LARGE)
    if sort in [*PinSort]:
        for status in (None, "queued", "published", "failed"):
            pin_filters = PinFilters(job_id=JOB_ID, sort=PinSort(sort), status=status)
            assert (await lists.list_pins(principal, pin_filters)).rows == []
    if sort in [*ScheduleSort]:
        for status in (None, "scheduled", "queued", "done", "canceled", "failed"):
            filters = ScheduleFilters(job_id=JOB_ID, sort=ScheduleSort(sort), status=status)
            assert (await lists.list_schedules(principal, filters)).rows == []
    require_bounded(plans)
    for statement, node in plans.scans():
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert rows <= MAX_READ_OF_JOB, f"{node}\n{statement}"


@pytest.mark.parametrize(
    "query",
    [{}, {"status": "failed"}, {"source_type": "json", "since": "2020-01-01T12:00:00Z"}],
    ids=str,
)
async def test_no_list_of_imports_scans_another_workspaces_rows(
    catalogue: Database, plans: Plans, query: dict[str, Any]
) -> None:
    lists = ImportLists(Paginator(catalogue, ListSettings(list_scan_limit=MAX_SCANNED)))
    for page in ({}, {"offset": 300}, {"cursor": build_cursor("imports", "created_at_desc")}):
        await read_page(lists.list_imports(build_principal(LARGE), ImportFilters(**query, **page)))
    require_bounded(plans)


async def test_the_first_page_reads_few_more_rows_than_it_shows(
    catalogue: Database, plans: Plans
) -> None:
    """The list has no filter. The total is counted from the index alone."""
    lists = make_lists(catalogue)
    page = await lists.list_pins(build_principal(LARGE), PinFilters(limit=50))
    assert len(page.rows) == 50
    scans = [
        (node["Node Type"], node["Actual Rows"])
        for _, node in plans.scans()
        if node["Index Name"] == "pins_shown"
    ]
    assert min(rows for _, rows in scans) < MAX_READ_AHEAD, scans
    assert "Index Only Scan" in {kind for kind, rows in scans if rows > 1000}, scans


@pytest.mark.parametrize("sort", ["created_at_desc", "created_at_asc"])
async def test_rows_before_a_cursor_are_not_read_again(
    catalogue: Database, plans: Plans, sort: str
) -> None:
    lists = make_lists(catalogue)
    cursor = write_cursor(Cursor(f"pins.{sort}", BEGINNING.replace(hour=20), UUID(int=2**127)))
    page = await lists.list_pins(
        build_principal(LARGE), PinFilters(limit=50, sort=PinSort(sort), cursor=cursor)
    )
    assert len(page.rows) == 50
    read = [
        node
        for statement, node in plans.scans()
        if node["Index Name"] == "pins_shown" and "first_unscanned" not in statement
    ]
    assert all("created_at" in node["Index Cond"] for node in read)
    assert all(
        node["Actual Rows"] + node.get("Rows Removed by Filter", 0) < MAX_READ_AHEAD
        for node in read
    )
