"""Searches for accounts to serve, and runs their turns at the same time."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from services.publisher.delivery.model import AccountLease, FinishedTurn
from shared.contract.errors import Unavailable

log = structlog.get_logger()

COLLECT_SECONDS = 0.1
"""The time in which turns that end are collected: one search follows for all of them."""
SEARCH_SHARE = 4
"""A search begins at least this many times the last one's duration in Postgres after it began. So
searches take at most a quarter of one core, however many accounts there are. The time for which
this process waits does not count: it is long while many turns run, and pins would be late."""


class LeaseStore(Protocol):
    """Stores leases. Implemented by LeaseRepository."""

    search_seconds: float
    """The time that the last exchange's search took in Postgres."""

    async def exchange(
        self, finished: Sequence[FinishedTurn], free_slots: int
    ) -> list[AccountLease]:
        """Releases leases, and takes others."""
        ...

    async def release(self, finished: Sequence[FinishedTurn]) -> None:
        """Releases leases."""
        ...


class AccountServer(Protocol):
    """Serves one account. Implemented by Turn."""

    async def run(self, lease: AccountLease) -> FinishedTurn:
        """Runs a turn. Never raises, except if it is canceled."""
        ...


class AccountWorker:
    """Serves at most `concurrency` accounts at once. Replicas share the accounts by leases.

    A periodic task calls `run_round`. As a component it only stops: then it lets turns end.
    """

    def __init__(
        self,
        store: LeaseStore,
        turn: AccountServer,
        *,
        concurrency: int,
        interval_seconds: float,
        stop_seconds: float,
    ) -> None:
        self._store = store
        self._turn = turn
        self._concurrency = concurrency
        self._interval_seconds = interval_seconds
        self._stop_seconds = stop_seconds
        self._turns: set[asyncio.Task[None]] = set()
        self._finished: list[FinishedTurn] = []
        self._changed = asyncio.Event()
        self._may_find_more = False
        """The last search found as many accounts as there were free slots."""

    async def start(self) -> None:
        """Does nothing. The periodic task calls `run_round`."""

    def problem(self) -> str | None:
        return None

    async def run_round(self) -> int:
        """Releases and leases accounts, then waits until another search can find more.

        Returns 1, so that the next round begins at once. Raises DatabaseUnavailable: a later round
        then releases the leases.
        """
        self._changed.clear()
        finished = list(self._finished)
        free = self._concurrency - len(self._turns)
        started = time.monotonic()
        leases = await self._store.exchange(finished, free)
        pause = max(COLLECT_SECONDS, SEARCH_SHARE * self._store.search_seconds)
        del self._finished[: len(finished)]
        for lease in leases:
            task = asyncio.create_task(self._serve(lease))
            self._turns.add(task)
            task.add_done_callback(self._turns.discard)
        self._may_find_more = len(leases) >= free
        if not (self._may_find_more and len(self._turns) < self._concurrency):
            await self._wait(finished)
        await asyncio.sleep(max(0.0, pause - (time.monotonic() - started)))
        return 1

    async def stop(self) -> None:
        """Waits for the turns in flight up to the stop timeout, and releases their leases.

        A request that is canceled then leaves its attempt without an outcome: it is confirmed.
        """
        if self._turns:
            _, unfinished = await asyncio.wait(self._turns, timeout=self._stop_seconds)
            for turn in unfinished:
                turn.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        with suppress(Unavailable):  # leases that are not released expire
            await self._store.release(self._finished)

    async def _serve(self, lease: AccountLease) -> None:
        self._finished.append(finished := await self._turn.run(lease))
        if finished.rest_seconds == 0 or self._may_find_more:
            self._changed.set()

    async def _wait(self, finished: Sequence[FinishedTurn]) -> None:
        """Waits until another search can find accounts, at most for the interval.

        That is so when a turn leaves work, or frees a slot that the last search lacked, or when the
        rest of a finished turn is over.
        """
        rests = [turn.remaining_seconds() for turn in finished]
        waits = [rest + COLLECT_SECONDS for rest in rests if rest > 0]
        with suppress(TimeoutError):
            async with asyncio.timeout(min([self._interval_seconds, *waits])):
                await self._changed.wait()
