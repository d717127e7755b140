"""The pause between two searches for accounts to serve."""

import asyncio
import time
from collections.abc import Sequence

from services.publisher.delivery.model import AccountLease, FinishedTurn
from services.publisher.delivery.worker import SEARCH_SHARE, AccountWorker


class SlowStore:
    """Finds nothing. Answers after `wait_seconds`, of which Postgres needed `search_seconds`."""

    def __init__(self, wait_seconds: float, search_seconds: float) -> None:
        self.wait_seconds = wait_seconds
        self.search_seconds = search_seconds

    async def exchange(
        self,
        finished: Sequence[FinishedTurn],  # noqa: ARG002 - the protocol's
        free_slots: int,  # noqa: ARG002
    ) -> list[AccountLease]:
        await asyncio.sleep(self.wait_seconds)
        return []

    async def release(self, finished: Sequence[FinishedTurn]) -> None:
        raise NotImplementedError


class NoTurn:
    async def run(self, lease: AccountLease) -> FinishedTurn:
        raise NotImplementedError


async def measure_round(store: SlowStore) -> float:
    worker = AccountWorker(store, NoTurn(), concurrency=1, interval_seconds=0.01, stop_seconds=1)
    began = time.monotonic()
    await worker.run_round()
    return time.monotonic() - began


async def test_a_search_that_only_waited_for_this_process_causes_no_pause() -> None:
    store = SlowStore(wait_seconds=1, search_seconds=0.001)
    async with asyncio.timeout(SEARCH_SHARE * store.wait_seconds):
        await measure_round(store)


async def test_searches_take_a_limited_share_of_postgres() -> None:
    store = SlowStore(wait_seconds=0, search_seconds=0.1)
    assert await measure_round(store) >= SEARCH_SHARE * store.search_seconds
