"""The limits of lists: how many rows they scan and count, and the answer at a limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import delete, text

from services.publisher.pins.deferral_reader import DeferralReader
from services.publisher.pins.lists.filters import PinFilters
from services.publisher.pins.lists.service import PinListService
from services.publisher.tables import pins
from shared.http.pagination import paginator as paginator_module
from shared.http.pagination.list_query import EMPTY_PAGE
from shared.http.pagination.paginator import Paginator
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings, ListSettings
from tests.integration.publisher.catalogue import (
    BEGINNING,
    DISTANT,
    MINUTE,
    Pin,
    model_pins,
    pin,
    store_pins,
)
from tests.integration.publisher.lists import Keys, serve_lists
from tests.support.listing import build_principal, parse_query, read_next_url, read_pages
from tests.support.waiting import eventually

MAX_SCANNED = 20
MAX_COUNTED = 10


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database: Database, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    async with serve_lists(
        database, keys, list_scan_limit=MAX_SCANNED, list_count_limit=MAX_COUNTED
    ) as http:
        yield http


async def create_workspace_with_pins(
    database: Database, count: int, **fields: Any
) -> tuple[UUID, list[Pin]]:
    """Creates `count` pins, three per minute. The oldest and the newest have their own titles."""
    workspace_id = uuid4()
    rows = [
        pin(
            workspace_id,
            created_at=BEGINNING + number // 3 * MINUTE,
            title={0: "oldest", count - 1: "newest"}.get(number, "lamp"),
            **fields,
        )
        for number in range(count)
    ]
    await store_pins(database, rows)
    return workspace_id, rows


def read_too_wide_error(answer: httpx.Response) -> dict[str, Any]:
    detail = dict(answer.json()["detail"])
    assert (answer.status_code, detail["code"]) == (422, "search_too_wide")
    assert detail["looked_at"] == MAX_SCANNED
    return detail


@pytest.mark.parametrize(
    ("sort", "sought", "near", "far"),
    [
        ("created_at_desc", "oldest", "since", "until"),
        ("created_at_asc", "newest", "until", "since"),
    ],
)
async def test_a_too_wide_search_says_how_far_it_came(
    http: httpx.AsyncClient,
    database: Database,
    keys: Keys,
    sort: str,
    sought: str,
    near: str,
    far: str,
) -> None:
    """A search that is narrowed as the error says succeeds. The next searches find the rest."""
    workspace_id, rows = await create_workspace_with_pins(database, 50)
    headers, query = keys.build_headers(workspace_id), {"sort": sort, "q": sought}
    narrowed: dict[str, str] = {}
    found: list[str] = []
    for _ in range(4):
        answer = await http.get("/v1/pins", params={**query, **narrowed}, headers=headers)
        if answer.is_success:
            break
        detail = read_too_wide_error(answer)
        assert f"{near}={detail['reached']}" in detail["message"]
        part = await http.get(
            "/v1/pins", params={**query, **narrowed, near: detail["reached"]}, headers=headers
        )
        assert part.status_code == 200
        found += [row["id"] for row in part.json()]
        narrowed = {far: detail["reached"]}
    found += [row["id"] for row in answer.json()]
    assert found == model_pins(rows).expected(sort=sort, q=sought)
    assert len(found) == 1


@pytest.mark.parametrize("sort", ["title_asc", "status_desc", "published_at_desc"])
async def test_an_order_without_an_index_needs_all_rows_within_the_scan_limit(
    http: httpx.AsyncClient, database: Database, keys: Keys, sort: str
) -> None:
    workspace_id, rows = await create_workspace_with_pins(database, 50)
    headers = keys.build_headers(workspace_id)
    detail = read_too_wide_error(await http.get("/v1/pins", params={"sort": sort}, headers=headers))
    query = {"sort": sort, "since": detail["reached"]}
    answer = await http.get("/v1/pins", params=query, headers=headers)
    assert [row["id"] for row in answer.json()] == model_pins(rows).expected(**query)
    assert MAX_SCANNED - 3 < len(answer.json()) <= MAX_SCANNED


async def test_a_full_page_at_the_scan_limit_has_a_next_link(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    """The page is full, but more rows may match after the scan limit."""
    workspace_id, rows = await create_workspace_with_pins(database, 50)
    answer = await http.get("/v1/pins?q=newest&limit=1", headers=keys.build_headers(workspace_id))
    assert [row["id"] for row in answer.json()] == [str(rows[-1]["pin_id"])]
    assert "x-total-count" not in answer.headers
    read_too_wide_error(
        await http.get(str(read_next_url(answer)), headers=keys.build_headers(workspace_id))
    )


async def test_an_offset_over_the_scan_limit_is_refused_but_a_cursor_gets_there(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    workspace_id, rows = await create_workspace_with_pins(database, 50)
    headers = keys.build_headers(workspace_id)
    read_too_wide_error(await http.get("/v1/pins?limit=10&offset=30", headers=headers))
    seen = [
        row["id"]
        async for page in read_pages(http, "/v1/pins", {"limit": 10}, headers)
        for row in page
    ]
    assert seen == model_pins(rows).expected(sort="created_at_desc")


@pytest.mark.parametrize(
    ("count", "total"), [(MAX_COUNTED, str(MAX_COUNTED)), (MAX_COUNTED + 1, None)]
)
async def test_a_total_is_sent_up_to_its_limit(
    http: httpx.AsyncClient, database: Database, keys: Keys, count: int, total: str | None
) -> None:
    workspace_id, _rows = await create_workspace_with_pins(database, count)
    answer = await http.get("/v1/pins?limit=5", headers=keys.build_headers(workspace_id))
    assert answer.headers.get("x-total-count") == total
    assert read_next_url(answer) is not None
    following = await http.get(str(read_next_url(answer)), headers=keys.build_headers(workspace_id))
    assert "x-total-count" not in following.headers  # only the first page has a total


async def test_no_total_is_sent_if_not_all_rows_could_be_scanned(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    workspace_id, _rows = await create_workspace_with_pins(
        database, MAX_SCANNED + 1, account_id=UUID(int=5)
    )
    more = [pin(workspace_id, created_at=BEGINNING + 100 * MINUTE) for _ in range(3)]
    await store_pins(database, more)
    answer = await http.get(
        "/v1/pins",
        params={"limit": 2, "account_id": more[0]["account_id"]},
        headers=keys.build_headers(workspace_id),
    )
    assert len(answer.json()) == 2
    assert "x-total-count" not in answer.headers


@pytest.mark.parametrize(
    "fields",
    [{"state": "scheduled", "run_at": DISTANT}, {"deleted_at": BEGINNING}],
    ids=["scheduled", "deleted"],
)
async def test_rows_that_are_not_pins_are_not_scanned_between_pins(
    http: httpx.AsyncClient, database: Database, keys: Keys, fields: dict[str, Any]
) -> None:
    """For example, a campaign was scheduled or deleted after the last pin was published."""
    workspace_id, rows = await create_workspace_with_pins(database, 2)
    await store_pins(
        database,
        [
            pin(workspace_id, created_at=BEGINNING + 100 * MINUTE, **fields)
            for _ in range(3 * MAX_SCANNED)
        ],
    )
    answer = await http.get("/v1/pins", headers=keys.build_headers(workspace_id))
    assert [row["id"] for row in answer.json()] == model_pins(rows).expected(sort="created_at_desc")
    assert answer.headers["x-total-count"] == "2"


async def test_more_due_pins_than_the_scan_limit_are_listed_as_schedules(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    """This happens if the scheduler is far behind."""
    workspace_id, rows = await create_workspace_with_pins(
        database, MAX_SCANNED + 1, state="scheduled", run_at=BEGINNING
    )
    headers = keys.build_headers(workspace_id)
    detail = read_too_wide_error(await http.get("/v1/pins", headers=headers))
    assert "GET /v1/schedules?status=queued" in detail["message"]
    assert "reached" not in detail
    assert (await http.get("/v1/pins?status=published", headers=headers)).json() == []
    due = [
        row
        async for page in read_pages(
            http, "/v1/schedules", {"status": "queued", "limit": 10}, headers
        )
        for row in page
    ]
    assert {row["status"] for row in due} == {"queued"}
    assert len(due) == len(rows)


OLD, RECENT = BEGINNING - 100 * MINUTE, BEGINNING + 100 * MINUTE


@pytest.mark.parametrize(
    ("sort", "created_at", "far"),
    [("created_at_desc", OLD, "until"), ("created_at_asc", RECENT, "since")],
)
async def test_due_pins_do_not_replace_rows_that_could_not_be_scanned(
    http: httpx.AsyncClient,
    database: Database,
    keys: Keys,
    sort: str,
    created_at: datetime,
    far: str,
) -> None:
    """The due pins come last in the order, and are enough to fill the page."""
    workspace_id, rows = await create_workspace_with_pins(database, 2 * MAX_SCANNED)
    headers, account_id = keys.build_headers(workspace_id), UUID(int=77)
    others = [
        pin(workspace_id, account_id=account_id, created_at=at)
        for at in (OLD + MINUTE, RECENT - MINUTE)
    ]
    due = [
        pin(
            workspace_id,
            account_id=account_id,
            created_at=created_at,
            state="scheduled",
            run_at=BEGINNING,
        )
        for _ in range(2)
    ]
    await store_pins(database, [*others, *due])
    query = {"account_id": str(account_id), "sort": sort, "limit": "1"}
    found: list[str] = []
    for _ in range(6):
        answer = await http.get("/v1/pins", params=query, headers=headers)
        if answer.is_error:
            query = {**query, far: read_too_wide_error(answer)["reached"]}
            query.pop("cursor", None)
            continue
        found += [row["id"] for row in answer.json()]
        if (url := read_next_url(answer)) is None:
            break
        query = parse_query(url)
    assert found == model_pins([*rows, *others, *due]).expected(
        account_id=str(account_id), sort=sort
    )
    assert len(found) == 4


async def test_no_offset_reaches_due_pins_over_the_scan_limit(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    workspace_id, rows = await create_workspace_with_pins(database, 2 * MAX_SCANNED)
    due = [pin(workspace_id, created_at=OLD, state="scheduled", run_at=BEGINNING) for _ in range(2)]
    await store_pins(database, due)
    headers, expected = (
        keys.build_headers(workspace_id),
        model_pins([*rows, *due]).expected(sort="created_at_desc"),
    )
    last = await http.get(f"/v1/pins?limit=1&offset={MAX_SCANNED - 1}", headers=headers)
    assert [row["id"] for row in last.json()] == [expected[MAX_SCANNED - 1]]
    for limit, offset in (
        (2, MAX_SCANNED - 1),
        (1, MAX_SCANNED),
        (2, MAX_SCANNED),
        (1, MAX_SCANNED + 1),
    ):
        read_too_wide_error(
            await http.get(f"/v1/pins?limit={limit}&offset={offset}", headers=headers)
        )
    seen = [
        row["id"]
        async for page in read_pages(http, "/v1/pins", {"limit": 3}, headers)
        for row in page
    ]
    assert seen == expected


async def test_a_page_and_its_scan_limit_use_one_snapshot(
    http: httpx.AsyncClient, database: Database, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a deletion between two statements could make an incomplete page look complete."""
    workspace_id, _rows = await create_workspace_with_pins(database, MAX_SCANNED + 1)
    execute = paginator_module._PageReader._execute

    async def delete_after_execute(page_reader: Any, sql: str, **values: Any) -> Any:
        answer = await execute(page_reader, sql, **values)
        async with database.transaction() as connection:
            await connection.execute(
                delete(pins).where(pins.c.workspace_id == workspace_id, pins.c.title == "newest")
            )
        return answer

    monkeypatch.setattr(paginator_module._PageReader, "_execute", delete_after_execute)
    read_too_wide_error(
        await http.get("/v1/pins?q=oldest", headers=keys.build_headers(workspace_id))
    )


async def test_schedules_are_bounded_by_their_run_at(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    workspace_id = uuid4()
    rows = [
        pin(
            workspace_id,
            state="scheduled",
            run_at=DISTANT + number * MINUTE,
            title=f"lamp {number}",
        )
        for number in range(50)
    ]
    await store_pins(database, rows)
    headers = keys.build_headers(workspace_id)
    detail = read_too_wide_error(await http.get("/v1/schedules?q=lamp 0", headers=headers))
    near = await http.get(
        "/v1/schedules", params={"since": detail["reached"], "limit": 200}, headers=headers
    )
    assert len(near.json()) == MAX_SCANNED
    read_too_wide_error(await http.get("/v1/schedules?sort=title_asc", headers=headers))


async def test_lists_leave_a_connection_for_other_requests(database_url: str) -> None:
    """Many slow lists at once must not take every connection."""
    pool = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(database_url), database_pool_size=2),
        application="tests",
    )
    lists, reader = (
        PinListService(
            Paginator(pool, ListSettings(), concurrency=1), DeferralReader(pool, "simulated")
        ),
        build_principal(uuid4()),
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(pool.dispose)
        with psycopg.connect(database_url) as owner:
            owner.execute("lock table publisher.pins in access exclusive mode")
            tasks = [asyncio.create_task(lists.list_pins(reader, PinFilters())) for _ in range(5)]
            await eventually(lambda: _is_waiting(owner))
            async with asyncio.timeout(30):
                assert await pool.fetch_first(text("select 1 as one")) == {"one": 1}
        assert await asyncio.gather(*tasks) == [EMPTY_PAGE] * 5


async def test_a_workspaces_searches_do_not_delay_another_workspaces_lists(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = PinListService(
        Paginator(database, ListSettings(), concurrency=2), DeferralReader(database, "simulated")
    )
    greedy, other = build_principal(uuid4()), build_principal(uuid4())
    begun, ended = asyncio.Event(), asyncio.Event()
    execute = paginator_module._PageReader._execute

    async def execute_slowly(page_reader: Any, sql: str, **values: Any) -> Any:
        if page_reader._values["workspace_id"] == greedy.workspace_id:
            begun.set()
            await ended.wait()
        return await execute(page_reader, sql, **values)

    monkeypatch.setattr(paginator_module._PageReader, "_execute", execute_slowly)
    tasks = [asyncio.create_task(lists.list_pins(greedy, PinFilters())) for _ in range(5)]
    await begun.wait()
    async with asyncio.timeout(30):
        assert await lists.list_pins(other, PinFilters()) == EMPTY_PAGE
    ended.set()
    assert await asyncio.gather(*tasks) == [EMPTY_PAGE] * 5


def _is_waiting(owner: psycopg.Connection[tuple[int]]) -> bool:
    return (
        owner.execute(
            "select from pg_locks where relation = 'publisher.pins'::regclass and not granted"
        ).fetchone()
        is not None
    )
