"""Lists share database connections fairly between workspaces."""

import asyncio
from functools import partial
from uuid import UUID, uuid4

import pytest

from shared.contract.errors import DatabaseUnavailable, Overloaded
from shared.http.pagination import queue as module
from shared.http.pagination.queue import MAX_PER_WORKSPACE, ListQueue
from tests.support.waiting import eventually

A, B, C = uuid4(), uuid4(), uuid4()


class Lists:
    """Runs lists through the queue. Each holds its slot until `end`."""

    def __init__(self, slots: int) -> None:
        self.queue = ListQueue(slots)
        self.started: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, workspace: UUID, *names: str) -> None:
        """Starts lists. When it returns, each holds a slot or waits for one."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks.append(asyncio.create_task(self._hold_slot(name, workspace)))
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self, *names: str) -> None:
        """Waits until each list has a slot, then ends it."""
        for name in names:
            await eventually(partial(self.started.count, name))
            self._ends[name].set()

    async def _hold_slot(self, name: str, workspace: UUID) -> None:
        async with self.queue.slot(workspace):
            self.started.append(name)
            await self._ends[name].wait()


async def test_a_workspace_always_leaves_one_slot_to_others() -> None:
    lists = Lists(slots=2)
    await lists.start(A, "a0", "a1", "a2")
    await lists.start(B, "b0")
    assert lists.started == ["a0", "b0"]
    await lists.end("a0", "b0", "a1", "a2")
    await asyncio.gather(*lists.tasks)


async def test_with_one_slot_workspaces_take_turns() -> None:
    lists = Lists(slots=1)
    await lists.start(A, "a0", "a1", "a2")
    await lists.start(B, "b0", "b1")
    await lists.start(C, "c0")
    order = ["a0", "b0", "c0", "a1", "b1", "a2"]
    for name in order:
        await lists.end(name)
    await asyncio.gather(*lists.tasks)
    assert lists.started == order


async def test_too_many_waiting_lists_of_one_workspace_are_refused_at_once() -> None:
    lists = Lists(slots=2)
    names = [f"a{number}" for number in range(MAX_PER_WORKSPACE)]
    await lists.start(A, *names)
    with pytest.raises(Overloaded) as refusal:
        async with lists.queue.slot(A):
            pytest.fail("the list got a slot")
    assert (refusal.value.status, refusal.value.details) == (
        429,
        {"limit": MAX_PER_WORKSPACE, "current": MAX_PER_WORKSPACE},
    )
    await lists.start(B, "b0")
    assert lists.started == ["a0", "b0"]
    await lists.end("b0", *names)
    await asyncio.gather(*lists.tasks)


async def test_a_wait_timeout_raises_database_unavailable_and_loses_no_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    lists = Lists(slots=1)
    await lists.start(A, "a0")
    await lists.start(B, "b0", "b1")
    refused = await asyncio.gather(*lists.tasks[1:], return_exceptions=True)
    assert [type(error) for error in refused] == [DatabaseUnavailable] * 2
    await lists.start(B, "b2")
    lists.tasks[-1].cancel()
    await lists.end("a0")
    await asyncio.gather(*lists.tasks, return_exceptions=True)
    async with lists.queue.slot(B):
        pass


async def test_no_state_is_kept_for_idle_workspaces() -> None:
    lists = Lists(slots=1)
    await lists.start(A, "a0", "a1")
    await lists.end("a0", "a1")
    await asyncio.gather(*lists.tasks)
    queue = lists.queue._queue
    assert (dict(queue._queues), dict(queue._held), dict(queue._round)) == ({}, {}, {})
