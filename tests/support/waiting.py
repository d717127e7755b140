"""Waits for a condition with a deadline. Tests never sleep for a fixed time instead."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, seconds: float = 20, every: float = 0.02
) -> T: ...
@overload
async def eventually(
    condition: Callable[[], T | None], *, seconds: float = 20, every: float = 0.02
) -> T: ...
async def eventually(
    condition: Callable[[], Any], *, seconds: float = 20, every: float = 0.02
) -> Any:
    """Returns the first true value of `condition`.

    Fails with the last value if none is true in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if loop.time() > deadline:
            raise AssertionError(f"not within {seconds} s; last seen: {value!r}")
        await asyncio.sleep(every)


def wait_until(condition: Callable[[], object], *, seconds: float = 40) -> None:
    """Waits until `condition` is true, in a synchronous test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
