"""Room is handed out in the order in which it was asked for, and none of it is ever lost."""

import asyncio
import random

import pytest

from shared.runtime.room import NoRoom, Room
from tests.support.waiting import eventually


async def test_what_is_given_back_goes_to_whoever_waits_longest() -> None:
    room = Room(10, patience_seconds=10)
    await room.take(10)
    served: list[str] = []

    async def ask(name: str, size: int) -> None:
        await room.take(size)
        served.append(name)

    waiting = [asyncio.create_task(ask("large", 8)), asyncio.create_task(ask("small", 2))]
    await asyncio.sleep(0)
    room.give_back(4)
    await asyncio.sleep(0)
    assert not served  # small would fit, but is not let past
    room.give_back(4)
    await eventually(lambda: served == ["large"])
    room.give_back(2)
    await asyncio.gather(*waiting)
    assert served == ["large", "small"]


async def test_who_gives_up_holds_up_nobody() -> None:
    room = Room(10, patience_seconds=10)
    await room.take(5)
    large = asyncio.create_task(room.take(8))
    await asyncio.sleep(0)
    small = asyncio.create_task(room.take(5))
    await asyncio.sleep(0)
    large.cancel()
    await small


async def test_who_finds_none_in_time_is_told() -> None:
    room = Room(10, patience_seconds=0.02)
    await room.take(5)
    with pytest.raises(NoRoom):
        await room.take(8)


async def test_none_of_it_is_lost_whoever_gives_up_and_when() -> None:
    chance = random.Random(4)
    room = Room(100, patience_seconds=0.002)

    async def use() -> None:
        size = chance.randint(1, 100)
        try:
            await room.take(size)
        except NoRoom:
            return
        try:
            await asyncio.sleep(chance.random() / 500)
        finally:
            room.give_back(size)

    for _ in range(20):
        users = [asyncio.create_task(use()) for _ in range(50)]
        await asyncio.sleep(0.001)
        for user in chance.sample(users, 10):
            user.cancel()
        results = await asyncio.gather(*users, return_exceptions=True)
        assert all(
            result is None or isinstance(result, asyncio.CancelledError) for result in results
        ), results
    await room.take(100)
