"""A limit's work in a process of its own, set up as a service's is, and what it used of its own and
of the servers.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import TypeVar

from shared.runtime.process import configure_gc
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import GENERATOR, cpu_per_row, usage

Given = TypeVar("Given")
CLIENT = "client"
START_SECONDS = 120


def apart(work: Callable[[Given], Figures], given: Given, *, processes: int = 1) -> list[Figures]:
    """What `work` returns in each of so many processes, which run at the same time."""
    context = get_context("spawn")
    begin = (context.Barrier(processes),)
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_set_up, initargs=begin
    ) as pool:
        return list(pool.map(work, [given] * processes))


def _set_up(begin: Barrier) -> None:
    configure_gc()
    begin.wait(
        START_SECONDS
    )  # or the first would have done the others' work before they had imported it


@dataclass
class Meter:
    """CPU of the servers and of this process; not what `uncounted` took of the latter: making the
    material, or another limit's part.
    """

    pids: Mapping[str, int]
    rows: int = 0
    counting: bool = False
    counted: asyncio.Event = field(default_factory=asyncio.Event)
    """Some rows were: a figure of none would be one of nothing."""
    _apart: float = field(default=0.0, init=False)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """The body must not wait: the CPU of whatever ran meanwhile would be lost."""
        started = time.thread_time()
        yield
        self._apart += time.thread_time() - started

    def count(self, rows: int) -> None:
        if self.counting and rows:
            self.rows += rows
            self.counted.set()

    @contextmanager
    def measuring(self) -> Iterator[Figures]:
        """Filled in at the end of the body."""
        figures: Figures = {}
        before, started = usage(self.pids), time.perf_counter()
        self._apart, self.rows, self.counting = 0.0, 0, True
        yield figures
        self.counting = False
        took, after = time.perf_counter() - started, usage(self.pids)
        busy = sum(after.cpu_seconds.values()) - sum(before.cpu_seconds.values())
        cpu = cpu_per_row(before, after, max(1, self.rows))
        cpu[CLIENT] = cpu.pop(GENERATOR) - self._apart / max(1, self.rows) * 1e6
        figures.update(
            {
                "rows": self.rows,
                "seconds": round(took, 2),
                "rows_per_second": round(self.rows / took),
                "cpu_us_per_row": {name: round(value, 2) for name, value in cpu.items()},
                "cpu_us_per_row_in_all": round(sum(cpu.values()), 1),
                "cores_busy": round(busy / took, 2),
            }
        )


def mean_of(found: Sequence[Figures], group: str) -> dict[str, float]:
    return {
        name: round(sum(one[group][name] for one in found) / len(found), 2)
        for name in found[0][group]
    }
