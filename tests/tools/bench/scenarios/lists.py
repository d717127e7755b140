"""Every list, filter and order at millions of pins, and single pins, while another workspace's
imports come at half of what is possible.
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
from tests.tools.bench.measure import latencies
from tests.tools.bench.scenarios.bench import Bench
from tests.tools.bench.scenarios.singles import Latencies, pace
from tests.tools.bench.sources import open_client
from tests.tools.bench.stored import NEEDLE, account, fill

SMALL_WORKSPACES = 200
DEFAULTS = {"list_scan_limit": "50000", "list_count_limit": "10000"}
PER_SECOND = 12.0
"""Questions, one in two of which looks at many rows: more would measure how they wait for each
other. There are some 60 kinds.
"""


class Question(NamedTuple):
    name: str
    url: str
    is_too_wide: bool = False
    """Refused, after as many rows as may be looked at: what that takes is a figure as well."""


def catalogue(bench: Bench) -> Figures:
    large, *small = bench.installation.new_workspaces(1 + SMALL_WORKSPACES)
    started = time.perf_counter()
    fill(
        bench.installation.database_url,
        bench.lengths.catalogue_pins,
        large.id,
        [one.id for one in small],
    )
    filled = round(time.perf_counter() - started, 1)
    with (
        bench.installation.setting("publisher", **DEFAULTS),
        bench.installation.setting("status", **DEFAULTS),
    ):
        rate, load = bench.imports_per_second() / 2, bench.new_load()
        found: dict[str, _Asking] = {}

        async def both() -> float:
            asking = _ask_all(bench, found, {"large": large, "small": small[0]})
            took, _ = await asyncio.gather(load.pace(bench.lengths.seconds, rate), asking)
            return took

        figures = bench.measured(load, both())
    return {
        **figures,
        "publications": bench.lengths.catalogue_pins,
        "filled_seconds": filled,
        "unavailable": sum(one.unavailable for one in found.values()),
        "answered_ms": {name: latencies(one.times.seconds) for name, one in found.items()},
    }


async def _ask_all(
    bench: Bench, found: dict[str, "_Asking"], workspaces: Mapping[str, NewWorkspace]
) -> None:
    """Every question in turn, of either workspace."""
    async with open_client(bench.installation.base_url) as http:
        for size, workspace in workspaces.items():
            headers = {"X-API-Key": workspace.api_key}
            for question in await _questions(http, headers, is_large=size == "large"):
                found[f"{size} {question.name}"] = _Asking(http, headers, question)
        asks = [(one.times, one) for one in found.values()]
        for one in found.values():
            await one()  # once before: caches
        random.Random(7).shuffle(asks)
        await pace(asks, bench.lengths.seconds, PER_SECOND)


class _Asking:
    """One question, again and again. Where it has several addresses, one after the other."""

    def __init__(
        self, http: httpx.AsyncClient, headers: dict[str, str], question: Question
    ) -> None:
        self._http = http
        self._headers = headers
        self._question = question
        self._urls = cycle(question.url.split(" "))
        self.times = Latencies()
        self.unavailable = 0
        """Times that it was answered 503: lists that take turns, on a machine that is too busy for
        their number.
        """

    async def __call__(self) -> httpx.Response:
        answer = await self._http.get(next(self._urls), headers=self._headers)
        is_refused = (
            self._question.is_too_wide and answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
        )
        is_unavailable = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        self.unavailable += is_unavailable
        if is_refused or is_unavailable:
            return httpx.Response(httpx.codes.OK, request=answer.request)
        return answer


async def _questions(
    http: httpx.AsyncClient, headers: dict[str, str], *, is_large: bool
) -> Sequence[Question]:
    """`is_large`: with more rows than one page may look at."""
    first = await http.get("/v1/pins", headers=headers)
    some_pins = [pin["id"] for pin in first.raise_for_status().json()]
    some_schedules = [
        one["id"]
        for one in (await http.get("/v1/schedules?limit=200", headers=headers))
        .raise_for_status()
        .json()
    ]
    recently = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    singles = [
        Question("GET pin", " ".join(f"/v1/pins/{one}" for one in some_pins)),
        Question("GET schedule", " ".join(f"/v1/schedules/{one}" for one in some_schedules)),
    ]
    lists = [
        Question("pins", "/v1/pins"),
        Question("pins, 200", "/v1/pins?limit=200"),
        Question("pins, next page", str(read_next_url(first))),
        Question("pins offset=5000", "/v1/pins?offset=5000"),
        *(
            Question(f"pins status={status}", f"/v1/pins?status={status}")
            for status in ("published", "failed", "queued")
        ),
        Question("pins error_code", "/v1/pins?error_code=account_not_found"),
        Question("pins account_id", f"/v1/pins?account_id={account(3)}"),
        Question("pins board_id", "/v1/pins?board_id=board-7"),
        Question("pins since until", f"/v1/pins?since={recently}&until=2100-01-01T00:00:00Z"),
        Question("pins q, many", "/v1/pins?q=warm"),
        Question("pins q, some", "/v1/pins?q=abc"),
        Question("pins q, none", f"/v1/pins?q={NEEDLE}", is_too_wide=is_large),
        Question("schedules", "/v1/schedules"),
        *(
            Question(f"schedules status={status}", f"/v1/schedules?status={status}")
            for status in ("scheduled", "queued", "done", "failed")
        ),
        Question("schedules q, none", f"/v1/schedules?q={NEEDLE}", is_too_wide=is_large),
        Question("imports", "/v1/pins/imports"),
    ]
    return [*singles, *lists, *_sorted_lists(recently, is_large=is_large)]


def _sorted_lists(since: str, *, is_large: bool) -> Iterator[Question]:
    for sort in ("created_at_asc", "published_at_desc", "title_asc", "status_asc"):
        too_wide = is_large and not sort.startswith("created_at")
        yield Question(f"pins sort={sort}", f"/v1/pins?sort={sort}", is_too_wide=too_wide)
    yield Question("pins sort=title_asc since", f"/v1/pins?sort=title_asc&since={since}")
    for sort in ("run_at_asc", "title_asc"):
        yield Question(
            f"schedules sort={sort}",
            f"/v1/schedules?sort={sort}",
            is_too_wide=is_large and sort == "title_asc",
        )
