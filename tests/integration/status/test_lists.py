"""Lists of imports: filters, pages by cursor, and the limits."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ingest.ids import new_job_id
from services.status.folding import group_by_job
from services.status.lists import ImportFilters, ImportLists
from services.status.repository import JobRepository
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import ImportAccepted, SourceType
from shared.http.pagination.cursors import write_cursor
from shared.http.pagination.paginator import Paginator
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from shared.runtime.settings import ListSettings
from tests.support.factories import NOON, created_result, import_accepted, rows_settled
from tests.support.listing import build_principal, list_imports

MINUTE = timedelta(minutes=1)


async def store_imports(
    database: Database, count: int, workspace_id: UUID | None = None, at: datetime = NOON
) -> list[ImportAccepted]:
    """Stores imports, two for each minute. Every third has settled rows, every second is CSV."""
    workspace_id = workspace_id or uuid4()
    jobs = [
        import_accepted(
            job_id=new_job_id(NOON),
            workspace_id=workspace_id,
            total_rows=1,
            accepted_at=at + number // 2 * MINUTE,
            source_type=(SourceType.JSON, SourceType.CSV)[number % 2],
        )
        for number in range(count)
    ]
    settled = [rows_settled(job, created_result(1)) for job in jobs[::3]]
    await JobRepository(database).fold(group_by_job([*jobs, *settled]), Advance(), moves=False)
    return jobs


def newest_first(jobs: Sequence[ImportAccepted]) -> list[UUID]:
    return [
        job.job_id
        for job in sorted(jobs, key=lambda job: (job.accepted_at, job.job_id), reverse=True)
    ]


async def all_pages(database: Database, workspace_id: UUID, **query: Any) -> list[UUID]:
    page = await list_imports(database, workspace_id, **query)
    ids = [row["job_id"] for row in page.rows]
    while page.next_cursor is not None:
        page = await list_imports(
            database, workspace_id, **query, cursor=write_cursor(page.next_cursor)
        )
        ids += [row["job_id"] for row in page.rows]
    return ids


@pytest.mark.parametrize(
    ("query", "expected_slice"),
    [
        ({}, slice(None)),
        ({"status": "completed"}, slice(0, None, 3)),
        ({"source_type": "csv"}, slice(1, None, 2)),
        ({"status": "completed", "source_type": "json"}, slice(0, None, 6)),
        ({"since": (NOON + 5 * MINUTE).isoformat()}, slice(10, None)),
        ({"until": (NOON + 5 * MINUTE).isoformat()}, slice(10)),
        ({"status": "failed"}, slice(0)),
    ],
    ids=str,
)
async def test_imports_are_listed_and_filtered_page_by_page(
    database: Database, query: dict[str, str], expected_slice: slice
) -> None:
    jobs = await store_imports(database, 25)
    await store_imports(database, 25)  # another workspace's
    expected = newest_first(jobs[expected_slice])
    assert await all_pages(database, jobs[0].workspace_id, limit=4, **query) == expected
    page = await list_imports(database, jobs[0].workspace_id, limit=2, offset=3, **query)
    assert ([row["job_id"] for row in page.rows], page.total) == (expected[3:5], len(expected))


async def test_new_imports_do_not_shift_pages(database: Database) -> None:
    jobs = await store_imports(database, 10)
    workspace_id = jobs[0].workspace_id
    first = await list_imports(database, workspace_id, limit=5)
    assert first.next_cursor is not None
    await store_imports(database, 5, workspace_id, NOON + 100 * MINUTE)
    second = await list_imports(
        database, workspace_id, limit=5, cursor=write_cursor(first.next_cursor)
    )
    assert [row["job_id"] for row in (*first.rows, *second.rows)] == newest_first(jobs)
    assert (second.next_cursor, second.total) == (None, None)


async def test_a_page_respects_the_scan_limit_and_the_count_limit(database: Database) -> None:
    jobs = await store_imports(database, 25)
    caller = build_principal(jobs[0].workspace_id)
    lists = ImportLists(Paginator(database, ListSettings(list_scan_limit=10, list_count_limit=5)))
    assert (await lists.list_imports(caller, ImportFilters(limit=3))).total is None
    with pytest.raises(ApiError) as error:
        await lists.list_imports(caller, ImportFilters(status="failed"))
    assert error.value.code is ErrorCode.SEARCH_TOO_WIDE
    narrower = await lists.list_imports(
        caller, ImportFilters(status="failed", since=error.value.details["reached"])
    )
    assert narrower.total == 0
