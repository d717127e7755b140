"""Shows how far a run is, even while Postgres does not answer."""

import asyncio
import time

from tests.tools.chaos.deliveries.nemesis import Nemesis
from tests.tools.chaos.deliveries.store import StoreReader

SHOW_SECONDS = 15.0


async def show_progress(store: StoreReader, nemesis: Nemesis, planned: int) -> None:
    """Prints a line every SHOW_SECONDS. Runs until it is canceled."""
    started = time.monotonic()
    while True:
        await asyncio.sleep(SHOW_SECONDS)
        counts = await store.count()
        faults = sum(nemesis.counts.values())
        print(
            describe_progress(time.monotonic() - started, counts, planned, faults=faults),
            flush=True,
        )


def describe_progress(
    seconds: float, counts: tuple[int, int] | None, planned: int, *, faults: int
) -> str:
    """Describes a run. `counts` are the pins that ended and those that are stored."""
    if counts is None:
        pins = "Postgres does not answer"
    else:
        ended, stored = counts
        pins = f"{ended}/{planned} pins ended, {stored} stored"
    return f"  {seconds:6.0f} s  {pins}, {faults} faults so far"
