"""The lists of pins and schedules: every filter in every order, against a model, and pages that
stay right while rows come in.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from services.publisher.pins.lists.sorting import PinSort, ScheduleSort
from shared.postgres.database import Database
from tests.integration.publisher.catalogue import (
    ACCOUNTS,
    BEGINNING,
    DISTANT,
    MINUTE,
    Model,
    Pin,
    pin,
    pins_of,
    schedules_of,
    some_of_each,
    store,
)
from tests.integration.publisher.lists import Keys, asking
from tests.support.listing import next_url, pages

MIDDLE = (BEGINNING + 30 * MINUTE).isoformat()
LATER = (BEGINNING + 50 * MINUTE).isoformat()
COMMON: list[dict[str, str]] = [
    {},
    {"account_id": str(ACCOUNTS[1])},
    {"board_id": "board-1"},
    {"since": MIDDLE},
    {"until": MIDDLE},
    {"since": MIDDLE, "until": LATER, "q": "a"},
    {"q": "LAMP"},
    {"q": "äPFEL"},
    {"q": "%"},
    {"q": "a_b"},
    {"q": "\\"},
    {"q": "shop.example"},
    {"q": ""},
]
PIN_FILTERS = [
    *COMMON,
    *({"status": status} for status in ("queued", "deferred", "publishing", "published", "failed")),
    {"status": "failed", "account_id": str(ACCOUNTS[0]), "board_id": "board-2"},
    {"status": "queued", "since": MIDDLE, "q": "lamp"},
    {"error_code": "account_not_found"},
    {"error_code": "account_not_found", "status": "failed", "until": LATER},
    {"error_code": "account_not_found", "status": "published"},
    {"error_code": "unheard_of"},
    {"removed": "true"},
    {"removed": "false"},
]
SCHEDULE_FILTERS = [
    *COMMON,
    *(
        {"status": status}
        for status in ("scheduled", "queued", "deferred", "running", "done", "failed", "canceled")
    ),
    {"since": DISTANT.isoformat()},
    {"status": "scheduled", "until": (DISTANT + 40 * MINUTE).isoformat(), "board_id": "board-2"},
    {"status": "queued", "since": MIDDLE, "q": "lamp"},
]
ROWS = 200


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database: Database, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(database, keys) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(database: Database) -> Sequence[Pin]:
    """Of one workspace; another has as many of its own."""
    mine = some_of_each(uuid4(), ROWS)
    await store(database, [*mine, *some_of_each(uuid4(), ROWS, seed=8)])
    return mine


@pytest.fixture
def headers(keys: Keys, rows: Sequence[Pin]) -> dict[str, str]:
    return keys.headers_of(rows[0]["workspace_id"])


async def by_cursor(
    http: httpx.AsyncClient, path: str, query: Mapping[str, Any], headers: Mapping[str, str]
) -> list[str]:
    return [row["id"] async for page in pages(http, path, query, headers) for row in page]


async def check(
    http: httpx.AsyncClient,
    path: str,
    query: Mapping[str, Any],
    headers: Mapping[str, str],
    expected: list[str],
) -> None:
    """All at once, some from an offset on, and page by page."""
    whole = await http.get(path, params={**query, "limit": 200}, headers=dict(headers))
    assert whole.status_code == 200, whole.text
    assert [row["id"] for row in whole.json()] == expected
    assert (whole.headers["x-total-count"], next_url(whole)) == (str(len(expected)), None)
    part = await http.get(path, params={**query, "limit": 5, "offset": 9}, headers=dict(headers))
    assert [row["id"] for row in part.json()] == expected[9:14]
    assert part.headers["x-total-count"] == str(len(expected))
    assert await by_cursor(http, path, {**query, "limit": 23}, headers) == expected


def _name(value: object) -> str:
    return (
        "&".join(f"{name}={one}" for name, one in value.items()) or "all"
        if isinstance(value, dict)
        else str(value)
    )


@pytest.mark.parametrize(("asked", "sort"), list(product(PIN_FILTERS, PinSort)), ids=_name)
async def test_pins_are_found_and_sorted_as_asked(
    http: httpx.AsyncClient,
    headers: dict[str, str],
    rows: Sequence[Pin],
    asked: dict[str, str],
    sort: PinSort,
) -> None:
    expected = pins_of(rows).expected(sort=sort, **asked)
    await check(http, "/v1/pins", {**asked, "sort": sort.value}, headers, expected)


@pytest.mark.parametrize(
    ("asked", "sort"), list(product(SCHEDULE_FILTERS, ScheduleSort)), ids=_name
)
async def test_schedules_are_found_and_sorted_as_asked(
    http: httpx.AsyncClient,
    headers: dict[str, str],
    rows: Sequence[Pin],
    asked: dict[str, str],
    sort: ScheduleSort,
) -> None:
    expected = schedules_of(rows).expected(sort=sort, **asked)
    await check(http, "/v1/schedules", {**asked, "sort": sort.value}, headers, expected)


async def test_the_model_has_something_of_everything(rows: Sequence[Pin]) -> None:
    """Or the tests above would say little."""
    for model, filters, sort in (
        (pins_of(rows), PIN_FILTERS, "created_at_desc"),
        (schedules_of(rows), SCHEDULE_FILTERS, "run_at_desc"),
    ):
        empty = [asked for asked in filters if not model.expected(sort=sort, **asked)]
        assert {asked.get("status") for asked in empty} <= {
            "deferred",
            "publishing",
            "running",
            "published",
            None,
        }
        assert len(empty) <= 5


@pytest.mark.parametrize(
    ("path", "sort"), [("/v1/pins", "created_at_desc"), ("/v1/schedules", "run_at_desc")]
)
async def test_what_was_not_asked_for_otherwise_comes_newest_first(
    http: httpx.AsyncClient, headers: dict[str, str], rows: Sequence[Pin], path: str, sort: str
) -> None:
    model = pins_of(rows) if path == "/v1/pins" else schedules_of(rows)
    answer = await http.get(path, headers=headers)
    assert [row["id"] for row in answer.json()] == model.expected(sort=sort)[:50]


async def grown(database: Database, workspace_id: UUID, number: int) -> list[Pin]:
    """More rows: newer than all, and among all others by their titles, with times that are there
    already.
    """
    more = [
        pin(workspace_id, created_at=BEGINNING + (1000 + number) * MINUTE, title="a"),
        pin(
            workspace_id,
            created_at=BEGINNING + (1000 + number) * MINUTE,
            title="zzz",
            state="failed",
        ),
        pin(workspace_id, created_at=BEGINNING, title="lamp"),
    ]
    await store(database, more)
    return more


@pytest.mark.parametrize("sort", PinSort)
async def test_pages_by_cursor_stay_right_while_rows_come_in(
    http: httpx.AsyncClient, database: Database, keys: Keys, sort: PinSort
) -> None:
    workspace_id = uuid4()
    before = [
        pin(workspace_id, created_at=BEGINNING + number // 3 * MINUTE, title=f"lamp {number % 7}")
        for number in range(40)
    ]
    await store(database, before)
    seen: list[str] = []
    later: list[Pin] = []
    query = {"sort": sort.value, "limit": 6}
    async for page in pages(http, "/v1/pins", query, keys.headers_of(workspace_id)):
        seen += [row["id"] for row in page]
        if len(later) < 30:
            later += await grown(database, workspace_id, len(later))
    assert len(seen) == len(set(seen))
    old = set(pins_of(before).expected(sort=sort))
    assert [one for one in seen if one in old] == pins_of(before).expected(sort=sort)
    everything = pins_of([*before, *later]).expected(sort=sort)
    assert seen == [one for one in everything if one in set(seen)]


async def test_newer_rows_do_not_move_what_is_listed_newest_first(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    """By offset the last of the first page would come again."""
    workspace_id = uuid4()
    await store(
        database,
        [pin(workspace_id, created_at=BEGINNING + number * MINUTE) for number in range(10)],
    )
    headers = keys.headers_of(workspace_id)
    first = await http.get("/v1/pins?limit=5", headers=headers)
    await store(database, [pin(workspace_id, created_at=BEGINNING + 100 * MINUTE)])
    by_offset = await http.get("/v1/pins?limit=5&offset=5", headers=headers)
    second = await http.get(str(next_url(first)), headers=headers)
    assert by_offset.json()[0] == first.json()[-1]
    assert not {row["id"] for row in first.json()} & {row["id"] for row in second.json()}
    assert (len(second.json()), next_url(second)) == (5, None)


async def test_a_link_keeps_what_was_asked(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    query: dict[str, Any] = {
        "limit": 2,
        "offset": 1,
        "q": "a&b=%26_ü",
        "sort": "title_asc",
        "stranger": "x",
    }
    assert (await http.get("/v1/pins", params=query, headers=headers)).json() == []
    answer = await http.get("/v1/pins", params={**query, "q": "%"}, headers=headers)
    url = httpx.URL(str(next_url(answer)))
    assert url.path == "/v1/pins"
    assert {name: value for name, value in url.params.items() if name != "cursor"} == {
        "limit": "2",
        "q": "%",
        "sort": "title_asc",
    }


@pytest.mark.parametrize(
    ("path", "sort", "query"),
    [
        ("/v1/pins", "title_asc", "limit=2&sort=title_asc&offset=3"),
        ("/v1/pins", "title_asc", "limit=2&sort=title_desc"),
        ("/v1/pins", "created_at_desc", "limit=2&sort=title_asc"),
        ("/v1/pins", "title_asc", "limit=2"),
        ("/v1/schedules", "title_asc", "limit=2&sort=title_asc"),
        ("/v1/schedules", "created_at_desc", "limit=2&sort=created_at_desc"),
    ],
)
async def test_a_cursor_is_good_for_its_own_list_and_order(
    http: httpx.AsyncClient, headers: dict[str, str], path: str, sort: str, query: str
) -> None:
    answer = await http.get("/v1/pins", params={"limit": 2, "sort": sort}, headers=headers)
    cursor = httpx.URL(str(next_url(answer))).params["cursor"]
    refused = await http.get(f"{path}?{query}&cursor={cursor}", headers=headers)
    detail = refused.json()["detail"]
    assert (refused.status_code, detail["code"], detail["parameter"]) == (
        422,
        "invalid_parameter",
        "cursor",
    )


async def test_an_offset_of_zero_is_none(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """As PinBridge's clients always send one."""
    url = next_url(await http.get("/v1/pins?limit=2", headers=headers))
    assert (await http.get(f"{url}&offset=0", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/pins", "/v1/schedules"])
async def test_a_key_sees_what_belongs_to_the_accounts_that_it_permits(
    http: httpx.AsyncClient, keys: Keys, rows: Sequence[Pin], path: str
) -> None:
    model: Model = pins_of(rows) if path == "/v1/pins" else schedules_of(rows)
    permitted = [row for row in rows if row["account_id"] in ACCOUNTS[:2]]
    headers = keys.headers_of(rows[0]["workspace_id"], frozenset(ACCOUNTS[:2]))
    await check(
        http,
        path,
        {"sort": "created_at_asc"},
        headers,
        model.but(permitted).expected(sort="created_at_asc"),
    )
    await check(http, path, {"account_id": str(ACCOUNTS[2])}, headers, [])
    await check(http, path, {}, keys.headers_of(rows[0]["workspace_id"], frozenset()), [])


@pytest.mark.parametrize("path", ["/v1/pins", "/v1/schedules"])
async def test_invariant_10_a_list_has_nothing_of_another_workspace(
    http: httpx.AsyncClient, keys: Keys, rows: Sequence[Pin], path: str
) -> None:
    for query in ({}, {"account_id": str(ACCOUNTS[0])}, {"q": "lamp"}, {"status": "failed"}):
        await check(http, path, query, keys.headers_of(uuid4()), [])
