"""A periodic task continues after failures, and reports repeated ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.contract.errors import BrokerUnavailable
from shared.runtime import periodic as periodic_module
from shared.runtime.periodic import MAX_FAILURES, PeriodicTask
from tests.support.waiting import eventually


class Work:
    """Raises `error` while it is set."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        self.attempts = 0

    async def run(self) -> int:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        return 0


@asynccontextmanager
async def running(work: Work) -> AsyncIterator[PeriodicTask]:
    periodic_task = PeriodicTask("outbox", work.run, interval_seconds=0.01)
    task = asyncio.create_task(periodic_task.run())
    try:
        yield periodic_task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_module, "MAX_BACKOFF_SECONDS", 0.01)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a bug"), BrokerUnavailable("down"), asyncio.CancelledError("a library's")],
)
async def test_a_task_that_always_fails_is_reported(error: BaseException) -> None:
    work = Work(error)
    async with running(work) as periodic_task:
        await eventually(lambda: periodic_task.problem() is not None)
        assert work.attempts > MAX_FAILURES
        assert (periodic_task.problem() or "").startswith("outbox: the last")
        work.error = None
        await eventually(lambda: periodic_task.problem() is None)


async def test_a_task_that_succeeds_reports_no_problem() -> None:
    work = Work(None)
    async with running(work) as periodic_task:
        await eventually(lambda: work.attempts > MAX_FAILURES)
        assert periodic_task.problem() is None


async def test_a_task_that_is_canceled_ends() -> None:
    task = asyncio.create_task(
        PeriodicTask("outbox", asyncio.Event().wait, interval_seconds=0.01).run()
    )
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
