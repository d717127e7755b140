"""Imports are parsed and written a few at a time, and workspaces take turns."""

import asyncio
from uuid import UUID, uuid4

import pytest

from services.ingest.admission.queue import ImportQueue
from shared.contract.errors import (
    ApiError,
    BrokerUnavailable,
    DatabaseUnavailable,
    ErrorCode,
    Overloaded,
)
from tests.support.waiting import eventually

A, B = uuid4(), uuid4()


class Scene:
    """Runs imports until `end` is called and records the order in which they began."""

    def __init__(self, queue: ImportQueue) -> None:
        self.queue = queue
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    def begin(
        self, name: str, workspace: UUID, error: Exception | None = None
    ) -> "asyncio.Task[None]":
        """Begins an import. It ends with `error`."""
        self._ends[name] = asyncio.Event()
        return asyncio.create_task(self._work(name, workspace, error))

    async def _work(self, name: str, workspace: UUID, error: Exception | None) -> None:
        async with self.queue.slot(workspace):
            self.begun.append(name)
            await self._ends[name].wait()
            if error is not None:
                raise error

    def end(self, name: str) -> None:
        self._ends[name].set()


def new_scene(*, at_once: int = 1, max_waiting: int = 100, timeout_seconds: float = 60) -> Scene:
    return Scene(
        ImportQueue(at_once=at_once, max_waiting=max_waiting, timeout_seconds=timeout_seconds)
    )


async def run_ready_tasks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_imports_beyond_the_limit_wait() -> None:
    scene = new_scene(at_once=2)
    tasks = [scene.begin(f"a{number}", A) for number in range(5)]
    await run_ready_tasks()
    assert scene.begun == ["a0", "a1"]
    for number in range(5):
        await has_begun(scene, f"a{number}")
        scene.end(f"a{number}")
    await asyncio.gather(*tasks)


async def test_an_import_of_another_workspace_waits_for_only_one_import_of_a_flood() -> None:
    scene = new_scene()
    tasks = [scene.begin(f"a{number}", A) for number in range(5)]
    await run_ready_tasks()
    tasks += [scene.begin("b0", B), scene.begin("b1", B)]
    await run_ready_tasks()
    order = ["a0", "a1", "b0", "a2", "b1", "a3", "a4"]
    for name in order:
        await has_begun(scene, name)
        scene.end(name)
    await asyncio.gather(*tasks)
    assert scene.begun == order


async def test_a_full_queue_refuses_at_once_and_has_a_reserve_for_another_workspace() -> None:
    scene = new_scene(max_waiting=10)
    tasks = [scene.begin(f"a{number}", A) for number in range(11)]
    await run_ready_tasks()
    with pytest.raises(Overloaded) as refusal:
        async with scene.queue.slot(A):
            raise AssertionError("not reached")
    assert (
        refusal.value.status,
        refusal.value.details["limit"],
        refusal.value.details["current"],
    ) == (429, 10, 10)
    tasks.append(scene.begin("b", B))
    await run_ready_tasks()
    scene.end("a0")
    for name in ["a1", "b", *(f"a{number}" for number in range(2, 11))]:
        scene.end(name)
    await asyncio.gather(*tasks)
    assert "b" in scene.begun


async def test_a_wait_that_is_too_long_is_an_overload_if_other_imports_were_written() -> None:
    scene = new_scene(at_once=2, timeout_seconds=0.5)
    tasks = [scene.begin("a0", A), scene.begin("a1", A)]
    await run_ready_tasks()
    first, second = scene.begin("a2", A), scene.begin("a3", A)
    await run_ready_tasks()
    scene.end("a0")
    await has_begun(scene, "a2")
    with pytest.raises(Overloaded):
        await second
    for name in ("a1", "a2"):
        scene.end(name)
    await asyncio.gather(first, *tasks)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (ApiError(ErrorCode.INVALID_CSV, "The file has no header."), Overloaded),
        (DatabaseUnavailable("away"), Overloaded),
        (BrokerUnavailable("away"), BrokerUnavailable),
    ],
)
async def test_a_wait_that_is_too_long_is_a_broker_outage_only_if_kafka_stopped_the_others(
    error: Exception, answer: type[Exception]
) -> None:
    scene = new_scene(timeout_seconds=0.5)
    holding = [scene.begin("a0", A, error), scene.begin("a1", A)]
    await run_ready_tasks()
    waiting = scene.begin("a2", A)
    await run_ready_tasks()
    scene.end("a0")
    await has_begun(scene, "a1")
    with pytest.raises(answer):
        await waiting
    scene.end("a1")
    await asyncio.gather(*holding, return_exceptions=True)


async def test_a_wait_that_is_too_long_is_a_broker_outage_if_no_import_was_written() -> None:
    scene = new_scene(timeout_seconds=0.05)
    task = scene.begin("a0", A)
    await run_ready_tasks()
    with pytest.raises(BrokerUnavailable):
        async with scene.queue.slot(A):
            raise AssertionError("not reached")
    scene.end("a0")
    await task


async def has_begun(scene: Scene, name: str) -> None:
    await eventually(lambda: name in scene.begun)


async def test_no_slot_is_lost_when_waiting_clients_disconnect() -> None:
    scene = new_scene()
    holding = scene.begin("a0", A)
    await run_ready_tasks()
    waiting = [scene.begin(f"a{number}", A) for number in range(1, 20)]
    await run_ready_tasks()
    for task in waiting[::2]:
        task.cancel()
    scene.end("a0")  # before the canceled tasks have run
    for number in range(1, 20):
        scene.end(f"a{number}")
    await asyncio.gather(holding, *waiting, return_exceptions=True)
    async with asyncio.timeout(5), scene.queue.slot(B):
        assert not scene.queue._queue.total_waiting


async def test_an_import_that_waits_for_kafka_releases_its_slot() -> None:
    queue = ImportQueue(at_once=1, max_waiting=10, timeout_seconds=60)
    async with queue.slot(A) as waiting:
        waiting.release_early()
        async with asyncio.timeout(5), queue.slot(B):
            pass
    async with asyncio.timeout(5), queue.slot(A):  # the slot was returned only once
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), queue.slot(B):
                pass


async def test_the_imports_that_wait_for_kafka_without_a_slot_are_limited() -> None:
    queue = ImportQueue(at_once=1, max_waiting=1, timeout_seconds=60)
    async with queue.slot(A) as first:
        first.release_early()
        async with queue.slot(A) as second:
            second.release_early()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), queue.slot(B):
                    pass
