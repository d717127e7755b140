"""Sends a peer the same imports as Pinflow, as fast as it accepts them.

The number of unsettled rows is bounded.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from deploy.administration import NewWorkspace
from shared.contract.events import MAX_ROWS
from tests.support.waiting import eventually
from tests.tools.bench.bodies import build_json_import, build_realistic_rows, insert_mark, new_mark
from tests.tools.bench.closed_loop import submit_while
from tests.tools.bench.sources import open_client

CLIENTS = 4
COUNT_INTERVAL_SECONDS = 0.5
"""Interval between counts of settled rows. It is long, because some peers must count all results.
"""
SETTLE_SECONDS = 180.0


@dataclass
class Submissions:
    """Submits imports to a peer and records what it accepted.

    `sent` is the number of rows of each accepted import, by its mark. `accepted` has the
    seconds until each was accepted.
    """

    base_url: str
    workspace: NewWorkspace
    count_settled_rows: Callable[[], int]
    sent: dict[str, int] = field(default_factory=dict)
    accepted: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._body = build_json_import(build_realistic_rows(self.workspace))
        self._settled = 0
        self._some_settled: asyncio.Event

    @property
    def rows(self) -> int:
        return sum(self.sent.values())

    async def saturate(self, seconds: float, max_unsettled_imports: int) -> float:
        """Submits for `seconds`, and returns the seconds until all has settled."""
        headers = {"X-API-Key": self.workspace.api_key, "Content-Type": self._body.content_type}
        # Created here, because each call has its own event loop
        self._some_settled = asyncio.Event()
        async with open_client(self.base_url, headers=headers) as client:
            started = time.perf_counter()
            counting = asyncio.create_task(self._count_periodically())
            try:
                await asyncio.gather(
                    *(
                        self._submit_until(
                            client, started + seconds, max_unsettled_imports * MAX_ROWS
                        )
                        for _ in range(CLIENTS)
                    )
                )
                await eventually(
                    lambda: self._settled >= self.rows, seconds=SETTLE_SECONDS, every=0.05
                )
            except AssertionError:  # a peer that loses rows is reported, and the run continues
                self.faults.append(
                    f"{self.rows - self._settled} rows had not settled {SETTLE_SECONDS:.0f} s "
                    "after the last submission"
                )
            finally:
                counting.cancel()
            return time.perf_counter() - started

    async def _submit_until(
        self, client: httpx.AsyncClient, end: float, max_unsettled_rows: int
    ) -> None:
        await submit_while(
            lambda: time.perf_counter() < end,
            lambda: self.rows - self._settled < max_unsettled_rows,
            lambda: self._submit(client),
            self._some_settled,
        )

    async def _submit(self, client: httpx.AsyncClient) -> None:
        mark = new_mark()
        started = time.perf_counter()
        response = await client.post(
            self._body.path, content=insert_mark(self._body.template, mark)
        )
        response.raise_for_status()
        self.accepted.append(time.perf_counter() - started)
        self.sent[mark] = MAX_ROWS

    async def _count_periodically(self) -> None:
        while True:
            self._settled = await asyncio.to_thread(self.count_settled_rows)
            self._some_settled.set()
            await asyncio.sleep(COUNT_INTERVAL_SECONDS)
