"""ByteBudget grants bytes in the order of the requests, and never loses any."""

import asyncio
import random

import pytest

from shared.runtime.limits.reservations import ByteBudget, WaitTimeout
from tests.support.waiting import eventually


async def test_released_bytes_go_to_the_longest_waiting_request() -> None:
    budget = ByteBudget(10, timeout_seconds=10)
    held = [await budget.acquire(size) for size in (4, 4, 2)]
    served: list[str] = []

    async def reserve(name: str, size: int) -> None:
        await budget.acquire(size)
        served.append(name)

    waiting = [asyncio.create_task(reserve("large", 8)), asyncio.create_task(reserve("small", 2))]
    await asyncio.sleep(0)
    held[0].release()
    await asyncio.sleep(0)
    assert not served  # the small request would fit, but must not overtake
    held[1].release()
    await eventually(lambda: served == ["large"])
    held[2].release()
    await asyncio.gather(*waiting)
    assert served == ["large", "small"]


async def test_a_canceled_request_does_not_block_the_queue() -> None:
    budget = ByteBudget(10, timeout_seconds=10)
    await budget.acquire(5)
    large = asyncio.create_task(budget.acquire(8))
    await asyncio.sleep(0)
    small = asyncio.create_task(budget.acquire(5))
    await asyncio.sleep(0)
    large.cancel()
    await small


async def test_a_request_that_waits_too_long_is_refused() -> None:
    budget = ByteBudget(10, timeout_seconds=0.02)
    await budget.acquire(5)
    with pytest.raises(WaitTimeout):
        await budget.acquire(8)


async def test_no_byte_is_lost_when_requests_give_up() -> None:
    generator = random.Random(4)
    budget = ByteBudget(100, timeout_seconds=0.002)

    async def use() -> None:
        try:
            reservation = await budget.acquire(generator.randint(1, 100))
        except WaitTimeout:
            return
        with reservation:
            await asyncio.sleep(generator.random() / 500)

    for _ in range(20):
        users = [asyncio.create_task(use()) for _ in range(50)]
        await asyncio.sleep(0.001)
        for user in generator.sample(users, 10):
            user.cancel()
        results = await asyncio.gather(*users, return_exceptions=True)
        assert all(
            result is None or isinstance(result, asyncio.CancelledError) for result in results
        ), results
    await budget.acquire(100)
