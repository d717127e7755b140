"""What a list may cost: how many rows it looks at and counts, and what it says when that is not
enough.
"""

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
    pin,
    pins_of,
    store,
)
from tests.integration.publisher.lists import Keys, asking
from tests.support.listing import next_url, pages, principal, query_of
from tests.support.waiting import eventually

MOST = 20
COUNTED = 10


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database: Database, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(database, keys, list_scan_limit=MOST, list_count_limit=COUNTED) as http:
        yield http


async def workspace_with(database: Database, count: int, **fields: Any) -> tuple[UUID, list[Pin]]:
    """So many pins, three of each minute, the oldest and the newest with a word of their own."""
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
    await store(database, rows)
    return workspace_id, rows


def refusal(answer: httpx.Response) -> dict[str, Any]:
    detail = dict(answer.json()["detail"])
    assert (answer.status_code, detail["code"]) == (422, "search_too_wide")
    assert detail["looked_at"] == MOST
    return detail


@pytest.mark.parametrize(
    ("sort", "sought", "near", "far"),
    [
        ("created_at_desc", "oldest", "since", "until"),
        ("created_at_asc", "newest", "until", "since"),
    ],
)
async def test_a_search_that_finds_too_little_says_how_far_it_came(
    http: httpx.AsyncClient,
    database: Database,
    keys: Keys,
    sort: str,
    sought: str,
    near: str,
    far: str,
) -> None:
    """Narrowed as it says, it is answered; gone on with from there, it comes to its end."""
    workspace_id, rows = await workspace_with(database, 50)
    headers, query = keys.headers_of(workspace_id), {"sort": sort, "q": sought}
    narrowed: dict[str, str] = {}
    found: list[str] = []
    for _ in range(4):
        answer = await http.get("/v1/pins", params={**query, **narrowed}, headers=headers)
        if answer.is_success:
            break
        detail = refusal(answer)
        assert f"{near}={detail['reached']}" in detail["message"]
        part = await http.get(
            "/v1/pins", params={**query, **narrowed, near: detail["reached"]}, headers=headers
        )
        assert part.status_code == 200
        found += [row["id"] for row in part.json()]
        narrowed = {far: detail["reached"]}
    found += [row["id"] for row in answer.json()]
    assert found == pins_of(rows).expected(sort=sort, q=sought)
    assert len(found) == 1


@pytest.mark.parametrize("sort", ["title_asc", "status_desc", "published_at_desc"])
async def test_an_order_without_an_index_wants_all_rows_within_the_bound(
    http: httpx.AsyncClient, database: Database, keys: Keys, sort: str
) -> None:
    workspace_id, rows = await workspace_with(database, 50)
    headers = keys.headers_of(workspace_id)
    detail = refusal(await http.get("/v1/pins", params={"sort": sort}, headers=headers))
    query = {"sort": sort, "since": detail["reached"]}
    answer = await http.get("/v1/pins", params=query, headers=headers)
    assert [row["id"] for row in answer.json()] == pins_of(rows).expected(**query)
    assert MOST - 3 < len(answer.json()) <= MOST


async def test_a_full_page_at_the_bound_leads_on(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    """As many as were asked for, and nobody knows whether there are more."""
    workspace_id, rows = await workspace_with(database, 50)
    answer = await http.get("/v1/pins?q=newest&limit=1", headers=keys.headers_of(workspace_id))
    assert [row["id"] for row in answer.json()] == [str(rows[-1]["pin_id"])]
    assert "x-total-count" not in answer.headers
    refusal(await http.get(str(next_url(answer)), headers=keys.headers_of(workspace_id)))


async def test_an_offset_beyond_the_bound_is_refused_and_a_cursor_gets_there(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    workspace_id, rows = await workspace_with(database, 50)
    headers = keys.headers_of(workspace_id)
    refusal(await http.get("/v1/pins?limit=10&offset=30", headers=headers))
    seen = [
        row["id"] async for page in pages(http, "/v1/pins", {"limit": 10}, headers) for row in page
    ]
    assert seen == pins_of(rows).expected(sort="created_at_desc")


@pytest.mark.parametrize(("count", "total"), [(COUNTED, str(COUNTED)), (COUNTED + 1, None)])
async def test_a_total_is_told_up_to_its_limit(
    http: httpx.AsyncClient, database: Database, keys: Keys, count: int, total: str | None
) -> None:
    workspace_id, _rows = await workspace_with(database, count)
    answer = await http.get("/v1/pins?limit=5", headers=keys.headers_of(workspace_id))
    assert answer.headers.get("x-total-count") == total
    assert next_url(answer) is not None
    following = await http.get(str(next_url(answer)), headers=keys.headers_of(workspace_id))
    assert "x-total-count" not in following.headers  # the first page told, or nobody can


async def test_a_total_is_not_told_when_not_all_rows_could_be_looked_at(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    workspace_id, _rows = await workspace_with(database, MOST + 1, account_id=UUID(int=5))
    more = [pin(workspace_id, created_at=BEGINNING + 100 * MINUTE) for _ in range(3)]
    await store(database, more)
    answer = await http.get(
        "/v1/pins",
        params={"limit": 2, "account_id": more[0]["account_id"]},
        headers=keys.headers_of(workspace_id),
    )
    assert len(answer.json()) == 2
    assert "x-total-count" not in answer.headers


@pytest.mark.parametrize(
    "fields",
    [{"state": "scheduled", "run_at": DISTANT}, {"deleted_at": BEGINNING}],
    ids=["scheduled", "deleted"],
)
async def test_what_is_no_pin_does_not_stand_between_pins(
    http: httpx.AsyncClient, database: Database, keys: Keys, fields: dict[str, Any]
) -> None:
    """A campaign that is scheduled, or deleted, after the last pin was published."""
    workspace_id, rows = await workspace_with(database, 2)
    await store(
        database,
        [pin(workspace_id, created_at=BEGINNING + 100 * MINUTE, **fields) for _ in range(3 * MOST)],
    )
    answer = await http.get("/v1/pins", headers=keys.headers_of(workspace_id))
    assert [row["id"] for row in answer.json()] == pins_of(rows).expected(sort="created_at_desc")
    assert answer.headers["x-total-count"] == "2"


async def test_more_pins_that_are_due_than_may_be_looked_at_are_had_as_schedules(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    """The scheduler is far behind."""
    workspace_id, rows = await workspace_with(
        database, MOST + 1, state="scheduled", run_at=BEGINNING
    )
    headers = keys.headers_of(workspace_id)
    detail = refusal(await http.get("/v1/pins", headers=headers))
    assert "GET /v1/schedules?status=queued" in detail["message"]
    assert "reached" not in detail
    assert (await http.get("/v1/pins?status=published", headers=headers)).json() == []
    due = [
        row
        async for page in pages(http, "/v1/schedules", {"status": "queued", "limit": 10}, headers)
        for row in page
    ]
    assert {row["status"] for row in due} == {"queued"}
    assert len(due) == len(rows)


OLD, RECENT = BEGINNING - 100 * MINUTE, BEGINNING + 100 * MINUTE


@pytest.mark.parametrize(
    ("sort", "created_at", "far"),
    [("created_at_desc", OLD, "until"), ("created_at_asc", RECENT, "since")],
)
async def test_pins_that_are_due_do_not_take_the_place_of_rows_that_could_not_be_looked_at(
    http: httpx.AsyncClient,
    database: Database,
    keys: Keys,
    sort: str,
    created_at: datetime,
    far: str,
) -> None:
    """They are far behind in the order, and enough to fill the page."""
    workspace_id, rows = await workspace_with(database, 2 * MOST)
    headers, account_id = keys.headers_of(workspace_id), UUID(int=77)
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
    await store(database, [*others, *due])
    query = {"account_id": str(account_id), "sort": sort, "limit": "1"}
    found: list[str] = []
    for _ in range(6):
        answer = await http.get("/v1/pins", params=query, headers=headers)
        if answer.is_error:
            query = {**query, far: refusal(answer)["reached"]}
            query.pop("cursor", None)
            continue
        found += [row["id"] for row in answer.json()]
        if (url := next_url(answer)) is None:
            break
        query = query_of(url)
    assert found == pins_of([*rows, *others, *due]).expected(account_id=str(account_id), sort=sort)
    assert len(found) == 4


async def test_no_offset_reaches_pins_that_are_due_beyond_the_bound(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    workspace_id, rows = await workspace_with(database, 2 * MOST)
    due = [pin(workspace_id, created_at=OLD, state="scheduled", run_at=BEGINNING) for _ in range(2)]
    await store(database, due)
    headers, expected = (
        keys.headers_of(workspace_id),
        pins_of([*rows, *due]).expected(sort="created_at_desc"),
    )
    last = await http.get(f"/v1/pins?limit=1&offset={MOST - 1}", headers=headers)
    assert [row["id"] for row in last.json()] == [expected[MOST - 1]]
    for limit, offset in ((2, MOST - 1), (1, MOST), (2, MOST), (1, MOST + 1)):
        refusal(await http.get(f"/v1/pins?limit={limit}&offset={offset}", headers=headers))
    seen = [
        row["id"] async for page in pages(http, "/v1/pins", {"limit": 3}, headers) for row in page
    ]
    assert seen == expected


async def test_a_page_and_its_bound_are_of_one_moment(
    http: httpx.AsyncClient, database: Database, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or rows that go between two statements would make a page complete that is not."""
    workspace_id, _rows = await workspace_with(database, MOST + 1)
    ask = paginator_module._PageReader._execute

    async def meddled(asking: Any, sql: str, **values: Any) -> Any:
        answer = await ask(asking, sql, **values)
        async with database.transaction() as connection:
            await connection.execute(
                delete(pins).where(pins.c.workspace_id == workspace_id, pins.c.title == "newest")
            )
        return answer

    monkeypatch.setattr(paginator_module._PageReader, "_execute", meddled)
    refusal(await http.get("/v1/pins?q=oldest", headers=keys.headers_of(workspace_id)))


async def test_schedules_are_bounded_by_their_own_time(
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
    await store(database, rows)
    headers = keys.headers_of(workspace_id)
    detail = refusal(await http.get("/v1/schedules?q=lamp 0", headers=headers))
    near = await http.get(
        "/v1/schedules", params={"since": detail["reached"], "limit": 200}, headers=headers
    )
    assert len(near.json()) == MOST
    refusal(await http.get("/v1/schedules?sort=title_asc", headers=headers))


async def test_lists_leave_a_connection_to_others(database_url: str) -> None:
    """However many are asked for, and however long they take."""
    pool = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(database_url), database_pool_size=2),
        application="tests",
    )
    lists, who = PinListService(Paginator(pool, ListSettings(), concurrency=1)), principal(uuid4())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(pool.dispose)
        with psycopg.connect(database_url) as owner:
            owner.execute("lock table publisher.pins in access exclusive mode")
            asked = [asyncio.create_task(lists.pins(who, PinFilters())) for _ in range(5)]
            await eventually(lambda: _waits(owner))
            async with asyncio.timeout(5):
                assert await pool.fetch_first(text("select 1 as one")) == {"one": 1}
        assert await asyncio.gather(*asked) == [EMPTY_PAGE] * 5


async def test_a_workspaces_searches_do_not_hold_up_another_workspaces_lists(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = PinListService(Paginator(database, ListSettings(), concurrency=2))
    greedy, other = principal(uuid4()), principal(uuid4())
    begun, ended = asyncio.Event(), asyncio.Event()
    ask = paginator_module._PageReader._execute

    async def long(asking: Any, sql: str, **values: Any) -> Any:
        if asking._values["workspace_id"] == greedy.workspace_id:
            begun.set()
            await ended.wait()
        return await ask(asking, sql, **values)

    monkeypatch.setattr(paginator_module._PageReader, "_execute", long)
    asked = [asyncio.create_task(lists.pins(greedy, PinFilters())) for _ in range(5)]
    await begun.wait()
    async with asyncio.timeout(5):
        assert await lists.pins(other, PinFilters()) == EMPTY_PAGE
    ended.set()
    assert await asyncio.gather(*asked) == [EMPTY_PAGE] * 5


def _waits(owner: psycopg.Connection[tuple[int]]) -> bool:
    return (
        owner.execute(
            "select from pg_locks where relation = 'publisher.pins'::regclass and not granted"
        ).fetchone()
        is not None
    )
