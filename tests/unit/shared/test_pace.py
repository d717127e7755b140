"""How often batches begin."""

import asyncio

import pytest

from shared.kafka import pace
from shared.kafka.pace import Pace


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    monkeypatch.setattr(pace, "asyncio", made)
    return made


async def turns(pace: Pace, count: int) -> None:
    for _ in range(count):
        await pace.turn()


async def test_a_few_after_a_rest_do_not_wait(clock: Clock) -> None:
    pace = Pace(10, at_once=3)
    for _ in range(2):
        before = clock.now
        await turns(pace, 3)
        assert clock.now == before
        await clock.sleep(60)  # longer than it takes to be full: no more than three are saved


async def test_a_stream_goes_at_its_pace(clock: Clock) -> None:
    pace = Pace(10, at_once=3)
    await turns(pace, 3)
    before = clock.now
    await turns(pace, 20)
    assert clock.now - before == pytest.approx(2.0)


async def test_work_between_turns_counts(clock: Clock) -> None:
    pace = Pace(10, at_once=1)
    await pace.turn()
    await clock.sleep(0.06)
    before = clock.now
    await pace.turn()
    assert clock.now - before == pytest.approx(0.04)


async def test_it_waits_by_the_real_clock() -> None:
    pace = Pace(50, at_once=1)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await turns(pace, 3)
    assert loop.time() - started >= 0.039
