"""A token bucket limits a consumer's batches to a rate, and allows a burst."""

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from shared.runtime.limits.token_buckets import token_bucket


class Clock:
    """Moves the event loop's clock to each timer at once, so that no test waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_at", self._call_at)
        self._loop = loop

    def _call_at(self, when: float, callback: object, *args: object) -> asyncio.Handle:
        # Slightly later than `when`, because sums of floats have rounding errors
        self.now = max(self.now, when) + 1e-9
        return self._loop.call_soon(callback, *args)  # type: ignore[arg-type]


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(asyncio.get_running_loop(), monkeypatch)


async def acquire(bucket: AsyncLimiter, count: int) -> None:
    for _ in range(count):
        await bucket.acquire()


async def test_a_burst_after_a_pause_does_not_wait(clock: Clock) -> None:
    bucket = token_bucket(per_second=10, burst=3)
    for _ in range(2):
        before = clock.now
        await acquire(bucket, 3)
        assert clock.now == before
        clock.now += 60  # long enough to fill the bucket, which never holds more than three
    await acquire(bucket, 3)
    before = clock.now
    await acquire(bucket, 1)
    assert clock.now - before == pytest.approx(0.1)


async def test_a_steady_stream_is_limited_to_the_rate(clock: Clock) -> None:
    bucket = token_bucket(per_second=10, burst=3)
    await acquire(bucket, 3)
    before = clock.now
    await acquire(bucket, 20)
    assert clock.now - before == pytest.approx(2.0)


async def test_time_between_two_tokens_counts(clock: Clock) -> None:
    bucket = token_bucket(per_second=10, burst=1)
    await bucket.acquire()
    clock.now += 0.06
    before = clock.now
    await bucket.acquire()
    assert clock.now - before == pytest.approx(0.04)


async def test_the_bucket_waits_by_the_real_clock() -> None:
    bucket = token_bucket(per_second=50, burst=1)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await acquire(bucket, 3)
    assert loop.time() - started >= 0.039
