"""As fast as it goes, while not too many wait: what every saturating load does, Pinflow's and its
peers'.
"""

import asyncio
from collections.abc import Awaitable, Callable


async def submit_while(
    goes_on: Callable[[], bool],
    has_room: Callable[[], bool],
    submit: Callable[[], Awaitable[object]],
    some_settled: asyncio.Event,
) -> None:
    """One client. Without room it waits until `some_settled` is set, and looks again."""
    while goes_on():
        if has_room():
            await submit()
        else:
            some_settled.clear()
            await some_settled.wait()
