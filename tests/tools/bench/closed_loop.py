"""Submits as fast as possible with a bound on unsettled imports.

All saturating loads use it, Pinflow's and its peers'.
"""

import asyncio
from collections.abc import Awaitable, Callable


async def submit_while(
    is_running: Callable[[], bool],
    has_capacity: Callable[[], bool],
    submit: Callable[[], Awaitable[object]],
    some_settled: asyncio.Event,
) -> None:
    """Submits as one client. Without capacity it waits until `some_settled` is set and checks
    again.
    """
    while is_running():
        if has_capacity():
            await submit()
        else:
            some_settled.clear()
            await some_settled.wait()
