"""As fast as it goes, while not too many wait: what every saturating load does, Pinflow's and its
peers'.
"""

import asyncio
from collections.abc import Awaitable, Callable


async def submit_while(
    is_running: Callable[[], bool],
    has_capacity: Callable[[], bool],
    submit: Callable[[], Awaitable[object]],
    some_settled: asyncio.Event,
) -> None:
    """One client. Without room it waits until `some_settled` is set, and looks again."""
    while is_running():
        if has_capacity():
            await submit()
        else:
            some_settled.clear()
            await some_settled.wait()
