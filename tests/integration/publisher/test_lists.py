"""The lists of pins and schedules: every filter in every order is compared with a model.

Pages stay correct while rows are added.
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
    ListModel,
    Pin,
    build_varied_pins,
    model_pins,
    model_schedules,
    pin,
    store_pins,
)
from tests.integration.publisher.lists import Keys, serve_lists
from tests.support.listing import read_next_url, read_pages

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
    async with serve_lists(database, keys) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(database: Database) -> Sequence[Pin]:
    """Stores rows of one workspace, and as many of another."""
    mine = build_varied_pins(uuid4(), ROWS)
    await store_pins(database, [*mine, *build_varied_pins(uuid4(), ROWS, seed=8)])
    return mine


@pytest.fixture
def headers(keys: Keys, rows: Sequence[Pin]) -> dict[str, str]:
    return keys.build_headers(rows[0]["workspace_id"])


async def read_ids_by_cursor(
    http: httpx.AsyncClient, path: str, query: Mapping[str, Any], headers: Mapping[str, str]
) -> list[str]:
    return [row["id"] async for page in read_pages(http, path, query, headers) for row in page]


async def check_list(
    http: httpx.AsyncClient,
    path: str,
    query: Mapping[str, Any],
    headers: Mapping[str, str],
    expected: list[str],
) -> None:
    """Checks the whole list, a page by offset, and all pages by cursor."""
    whole = await http.get(path, params={**query, "limit": 200}, headers=dict(headers))
    assert whole.status_code == 200, whole.text
    assert [row["id"] for row in whole.json()] == expected
    assert (whole.headers["x-total-count"], read_next_url(whole)) == (str(len(expected)), None)
    part = await http.get(path, params={**query, "limit": 5, "offset": 9}, headers=dict(headers))
    assert [row["id"] for row in part.json()] == expected[9:14]
    assert part.headers["x-total-count"] == str(len(expected))
    assert await read_ids_by_cursor(http, path, {**query, "limit": 23}, headers) == expected


def _build_test_id(value: object) -> str:
    return (
        "&".join(f"{name}={value}" for name, value in value.items()) or "all"
        if isinstance(value, dict)
        else str(value)
    )


@pytest.mark.parametrize(
    ("filters", "sort"), list(product(PIN_FILTERS, PinSort)), ids=_build_test_id
)
async def test_pins_are_filtered_and_sorted_as_requested(
    http: httpx.AsyncClient,
    headers: dict[str, str],
    rows: Sequence[Pin],
    filters: dict[str, str],
    sort: PinSort,
) -> None:
    expected = model_pins(rows).expected(sort=sort, **filters)
    await check_list(http, "/v1/pins", {**filters, "sort": sort.value}, headers, expected)


@pytest.mark.parametrize(
    ("filters", "sort"), list(product(SCHEDULE_FILTERS, ScheduleSort)), ids=_build_test_id
)
async def test_schedules_are_filtered_and_sorted_as_requested(
    http: httpx.AsyncClient,
    headers: dict[str, str],
    rows: Sequence[Pin],
    filters: dict[str, str],
    sort: ScheduleSort,
) -> None:
    expected = model_schedules(rows).expected(sort=sort, **filters)
    await check_list(http, "/v1/schedules", {**filters, "sort": sort.value}, headers, expected)


async def test_the_model_has_rows_for_almost_every_filter(rows: Sequence[Pin]) -> None:
    """Otherwise the tests above would compare empty lists."""
    for model, filters, sort in (
        (model_pins(rows), PIN_FILTERS, "created_at_desc"),
        (model_schedules(rows), SCHEDULE_FILTERS, "run_at_desc"),
    ):
        empty = [filters for filters in filters if not model.expected(sort=sort, **filters)]
        assert {filters.get("status") for filters in empty} <= {
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
async def test_lists_are_newest_first_by_default(
    http: httpx.AsyncClient, headers: dict[str, str], rows: Sequence[Pin], path: str, sort: str
) -> None:
    model = model_pins(rows) if path == "/v1/pins" else model_schedules(rows)
    answer = await http.get(path, headers=headers)
    assert [row["id"] for row in answer.json()] == model.expected(sort=sort)[:50]


async def add_pins(database: Database, workspace_id: UUID, number: int) -> list[Pin]:
    """Adds rows that are newer than all others, and a row with an existing time and title."""
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
    await store_pins(database, more)
    return more


@pytest.mark.parametrize("sort", PinSort)
async def test_pages_by_cursor_stay_correct_while_rows_are_added(
    http: httpx.AsyncClient, database: Database, keys: Keys, sort: PinSort
) -> None:
    workspace_id = uuid4()
    before = [
        pin(workspace_id, created_at=BEGINNING + number // 3 * MINUTE, title=f"lamp {number % 7}")
        for number in range(40)
    ]
    await store_pins(database, before)
    seen: list[str] = []
    later: list[Pin] = []
    query = {"sort": sort.value, "limit": 6}
    async for page in read_pages(http, "/v1/pins", query, keys.build_headers(workspace_id)):
        seen += [row["id"] for row in page]
        if len(later) < 30:
            later += await add_pins(database, workspace_id, len(later))
    assert len(seen) == len(set(seen))
    old = set(model_pins(before).expected(sort=sort))
    assert [value for value in seen if value in old] == model_pins(before).expected(sort=sort)
    everything = model_pins([*before, *later]).expected(sort=sort)
    assert seen == [value for value in everything if value in set(seen)]


async def test_newer_rows_do_not_shift_pages_by_cursor(
    http: httpx.AsyncClient, database: Database, keys: Keys
) -> None:
    """Pages by offset would repeat the last row of the first page."""
    workspace_id = uuid4()
    await store_pins(
        database,
        [pin(workspace_id, created_at=BEGINNING + number * MINUTE) for number in range(10)],
    )
    headers = keys.build_headers(workspace_id)
    first = await http.get("/v1/pins?limit=5", headers=headers)
    await store_pins(database, [pin(workspace_id, created_at=BEGINNING + 100 * MINUTE)])
    by_offset = await http.get("/v1/pins?limit=5&offset=5", headers=headers)
    second = await http.get(str(read_next_url(first)), headers=headers)
    assert by_offset.json()[0] == first.json()[-1]
    assert not {row["id"] for row in first.json()} & {row["id"] for row in second.json()}
    assert (len(second.json()), read_next_url(second)) == (5, None)


async def test_a_next_link_keeps_the_query(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    query: dict[str, Any] = {
        "limit": 2,
        "offset": 1,
        "q": "a&b=%26_ü",
        "sort": "title_asc",
    }
    assert (await http.get("/v1/pins", params=query, headers=headers)).json() == []
    answer = await http.get("/v1/pins", params={**query, "q": "%"}, headers=headers)
    url = httpx.URL(str(read_next_url(answer)))
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
async def test_a_cursor_is_valid_only_for_its_list_and_order(
    http: httpx.AsyncClient, headers: dict[str, str], path: str, sort: str, query: str
) -> None:
    answer = await http.get("/v1/pins", params={"limit": 2, "sort": sort}, headers=headers)
    cursor = httpx.URL(str(read_next_url(answer))).params["cursor"]
    refused = await http.get(f"{path}?{query}&cursor={cursor}", headers=headers)
    detail = refused.json()["detail"]
    assert (refused.status_code, detail["code"], detail["parameter"]) == (
        422,
        "invalid_parameter",
        "cursor",
    )


async def test_a_cursor_may_come_with_offset_zero(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    """PinBridge's clients always send an offset."""
    url = read_next_url(await http.get("/v1/pins?limit=2", headers=headers))
    assert (await http.get(f"{url}&offset=0", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/pins", "/v1/schedules"])
async def test_a_key_sees_only_rows_of_its_permitted_accounts(
    http: httpx.AsyncClient, keys: Keys, rows: Sequence[Pin], path: str
) -> None:
    model: ListModel = model_pins(rows) if path == "/v1/pins" else model_schedules(rows)
    permitted = [row for row in rows if row["account_id"] in ACCOUNTS[:2]]
    headers = keys.build_headers(rows[0]["workspace_id"], frozenset(ACCOUNTS[:2]))
    await check_list(
        http,
        path,
        {"sort": "created_at_asc"},
        headers,
        model.with_rows(permitted).expected(sort="created_at_asc"),
    )
    await check_list(http, path, {"account_id": str(ACCOUNTS[2])}, headers, [])
    await check_list(http, path, {}, keys.build_headers(rows[0]["workspace_id"], frozenset()), [])


@pytest.mark.parametrize("path", ["/v1/pins", "/v1/schedules"])
async def test_invariant_10_a_list_has_nothing_of_another_workspace(
    http: httpx.AsyncClient, keys: Keys, rows: Sequence[Pin], path: str
) -> None:
    for query in ({}, {"account_id": str(ACCOUNTS[0])}, {"q": "lamp"}, {"status": "failed"}):
        await check_list(http, path, query, keys.build_headers(uuid4()), [])
