"""Bytes are reserved in the order in which they were asked for, and none is ever lost."""

import asyncio
import random

import pytest

from shared.runtime.limits.reservations import ByteBudget, WaitTimeout
from tests.support.waiting import eventually


async def test_released_bytes_go_to_the_longest_waiting_request() -> None:
    budget = ByteBudget(10, timeout_seconds=10)
    held = [await budget.acquire(size) for size in (4, 4, 2)]
    served: list[str] = []

    async def ask(name: str, size: int) -> None:
        await budget.acquire(size)
        served.append(name)

    waiting = [asyncio.create_task(ask("large", 8)), asyncio.create_task(ask("small", 2))]
    await asyncio.sleep(0)
    held[0].release()
    await asyncio.sleep(0)
    assert not served  # small would fit, but is not let past
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
    chance = random.Random(4)
    budget = ByteBudget(100, timeout_seconds=0.002)

    async def use() -> None:
        try:
            reservation = await budget.acquire(chance.randint(1, 100))
        except WaitTimeout:
            return
        with reservation:
            await asyncio.sleep(chance.random() / 500)

    for _ in range(20):
        users = [asyncio.create_task(use()) for _ in range(50)]
        await asyncio.sleep(0.001)
        for user in chance.sample(users, 10):
            user.cancel()
        results = await asyncio.gather(*users, return_exceptions=True)
        assert all(
            result is None or isinstance(result, asyncio.CancelledError) for result in results
        ), results
    await budget.acquire(100)
