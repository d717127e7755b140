"""Measures every list, filter and order, and single pins, with millions of pins in the store.

Meanwhile another workspace submits imports at half of the maximum rate.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import NamedTuple

import httpx

from deploy.administration import NewWorkspace
from tests.support.listing import read_next_url
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import summarize_latencies
from tests.tools.bench.prepared_store import NEEDLE, compute_account_id, fill_store
from tests.tools.bench.scenarios.bench import Bench
from tests.tools.bench.scenarios.single_requests import RequestLatencies, send_at_rate
from tests.tools.bench.sources import open_client

SMALL_WORKSPACES = 200
DEFAULT_LIST_LIMITS = {"list_scan_limit": "50000", "list_count_limit": "10000"}
QUERIES_PER_SECOND = 12.0
"""Queries per second. Half of the about 60 kinds read many rows.

At a higher rate the figures would show how queries wait for each other.
"""


class Query(NamedTuple):
    name: str
    url: str
    """One or more URLs, separated by spaces."""
    is_too_wide: bool = False
    """The query reads up to the scan limit and is then refused. Its time is a figure too."""


def catalogue(bench: Bench) -> Figures:
    """Fills the store, then measures all queries of a large and a small workspace."""
    large, *small = bench.installation.new_workspaces(1 + SMALL_WORKSPACES)
    started = time.perf_counter()
    fill_store(
        bench.installation.database_url,
        bench.lengths.catalogue_pins,
        large.id,
        [workspace.id for workspace in small],
    )
    filled = round(time.perf_counter() - started, 1)
    with (
        bench.installation.changed_settings("publisher", **DEFAULT_LIST_LIMITS),
        bench.installation.changed_settings("status", **DEFAULT_LIST_LIMITS),
    ):
        rate, load = bench.imports_per_second() / 2, bench.new_load()
        queries: dict[str, _RepeatedQuery] = {}

        async def run_both() -> float:
            querying = _send_all_queries(bench, queries, {"large": large, "small": small[0]})
            elapsed, _ = await asyncio.gather(
                load.send_at_rate(bench.lengths.seconds, rate), querying
            )
            return elapsed

        figures = bench.measure_load(load, run_both())
    return {
        **figures,
        "publications": bench.lengths.catalogue_pins,
        "filled_seconds": filled,
        "unavailable": sum(query.unavailable for query in queries.values()),
        "answered_ms": {
            name: summarize_latencies(query.latencies.seconds) for name, query in queries.items()
        },
    }


async def _send_all_queries(
    bench: Bench, queries: dict[str, "_RepeatedQuery"], workspaces: Mapping[str, NewWorkspace]
) -> None:
    """Sends every query of both workspaces in rotation."""
    async with open_client(bench.installation.base_url) as http:
        for size, workspace in workspaces.items():
            headers = {"X-API-Key": workspace.api_key}
            for query in await _build_queries(http, headers, is_large=size == "large"):
                queries[f"{size} {query.name}"] = _RepeatedQuery(http, headers, query)
        requests = [(repeated.latencies, repeated) for repeated in queries.values()]
        for repeated in queries.values():
            await repeated()  # fills the caches before the measurement
        random.Random(7).shuffle(requests)
        await send_at_rate(requests, bench.lengths.seconds, QUERIES_PER_SECOND)


class _RepeatedQuery:
    """Sends one query repeatedly, through its URLs in rotation."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str], query: Query) -> None:
        self._http = http
        self._headers = headers
        self._query = query
        self._urls = cycle(query.url.split(" "))
        self.latencies = RequestLatencies()
        self.unavailable = 0
        """Number of 503 responses: the machine is too slow for lists that wait for each other."""

    async def __call__(self) -> httpx.Response:
        response = await self._http.get(next(self._urls), headers=self._headers)
        is_refused = (
            self._query.is_too_wide and response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
        )
        is_unavailable = response.status_code == httpx.codes.SERVICE_UNAVAILABLE
        self.unavailable += is_unavailable
        if is_refused or is_unavailable:
            return httpx.Response(httpx.codes.OK, request=response.request)
        return response


async def _build_queries(
    http: httpx.AsyncClient, headers: dict[str, str], *, is_large: bool
) -> Sequence[Query]:
    """Builds the queries of a workspace. `is_large`: it has more rows than a page may scan."""
    first = await http.get("/v1/pins", headers=headers)
    pin_ids = [pin["id"] for pin in first.raise_for_status().json()]
    schedule_ids = [
        schedule["id"]
        for schedule in (await http.get("/v1/schedules?limit=200", headers=headers))
        .raise_for_status()
        .json()
    ]
    two_hours_ago = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    singles = [
        Query("GET pin", " ".join(f"/v1/pins/{pin_id}" for pin_id in pin_ids)),
        Query(
            "GET schedule", " ".join(f"/v1/schedules/{schedule_id}" for schedule_id in schedule_ids)
        ),
    ]
    lists = [
        Query("pins", "/v1/pins"),
        Query("pins, 200", "/v1/pins?limit=200"),
        Query("pins, next page", str(read_next_url(first))),
        Query("pins offset=5000", "/v1/pins?offset=5000"),
        *(
            Query(f"pins status={status}", f"/v1/pins?status={status}")
            for status in ("published", "failed", "queued")
        ),
        Query("pins error_code", "/v1/pins?error_code=account_not_found"),
        Query("pins account_id", f"/v1/pins?account_id={compute_account_id(3)}"),
        Query("pins board_id", "/v1/pins?board_id=board-7"),
        Query("pins since until", f"/v1/pins?since={two_hours_ago}&until=2100-01-01T00:00:00Z"),
        Query("pins q, many", "/v1/pins?q=warm"),
        Query("pins q, some", "/v1/pins?q=abc"),
        Query("pins q, none", f"/v1/pins?q={NEEDLE}", is_too_wide=is_large),
        Query("schedules", "/v1/schedules"),
        *(
            Query(f"schedules status={status}", f"/v1/schedules?status={status}")
            for status in ("scheduled", "queued", "done", "failed")
        ),
        Query("schedules q, none", f"/v1/schedules?q={NEEDLE}", is_too_wide=is_large),
        Query("imports", "/v1/pins/imports"),
    ]
    return [*singles, *lists, *_sorted_lists(two_hours_ago, is_large=is_large)]


def _sorted_lists(since: str, *, is_large: bool) -> Iterator[Query]:
    for sort in ("created_at_asc", "published_at_desc", "title_asc", "status_asc"):
        too_wide = is_large and not sort.startswith("created_at")
        yield Query(f"pins sort={sort}", f"/v1/pins?sort={sort}", is_too_wide=too_wide)
    yield Query("pins sort=title_asc since", f"/v1/pins?sort=title_asc&since={since}")
    for sort in ("run_at_asc", "title_asc"):
        yield Query(
            f"schedules sort={sort}",
            f"/v1/schedules?sort={sort}",
            is_too_wide=is_large and sort == "title_asc",
        )
