"""Runs a limit's work in separate processes that are set up like services.

Meters the CPU of these processes and of the servers.
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
from tests.tools.bench.measure import GENERATOR, compute_cpu_per_row, measure_usage

TaskInput = TypeVar("TaskInput")
CLIENT = "client"
START_SECONDS = 120


def run_in_processes(
    work: Callable[[TaskInput], Figures], task_input: TaskInput, *, processes: int = 1
) -> list[Figures]:
    """Runs `work` in `processes` processes at the same time, and returns each one's figures."""
    context = get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_set_up, initargs=(barrier,)
    ) as pool:
        return list(pool.map(work, [task_input] * processes))


def _set_up(barrier: Barrier) -> None:
    configure_gc()
    # Otherwise the first process would take the others' work while they still import modules
    barrier.wait(START_SECONDS)


@dataclass
class Meter:
    """Meters CPU of the servers and of this process.

    `uncounted` excludes work that is not part of the limit: preparing data, or another limit's
    part.
    """

    pids: Mapping[str, int]
    rows: int = 0
    counting: bool = False
    counted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once rows have been counted: a figure needs at least one row."""
    _uncounted_seconds: float = field(default=0.0, init=False)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Excludes the CPU of the body, which must not await: that would exclude other tasks."""
        started = time.thread_time()
        yield
        self._uncounted_seconds += time.thread_time() - started

    def count(self, rows: int) -> None:
        if self.counting and rows:
            self.rows += rows
            self.counted.set()

    @contextmanager
    def measuring(self) -> Iterator[Figures]:
        """Yields figures that are filled in at the end of the body."""
        figures: Figures = {}
        before, started = measure_usage(self.pids), time.perf_counter()
        self._uncounted_seconds, self.rows, self.counting = 0.0, 0, True
        yield figures
        self.counting = False
        elapsed, after = time.perf_counter() - started, measure_usage(self.pids)
        cpu_seconds = sum(after.cpu_seconds.values()) - sum(before.cpu_seconds.values())
        cpu = compute_cpu_per_row(before, after, max(1, self.rows))
        cpu[CLIENT] = cpu.pop(GENERATOR) - self._uncounted_seconds / max(1, self.rows) * 1e6
        figures.update(
            {
                "rows": self.rows,
                "seconds": round(elapsed, 2),
                "rows_per_second": round(self.rows / elapsed),
                "cpu_us_per_row": {name: round(value, 2) for name, value in cpu.items()},
                "cpu_us_per_row_in_all": round(sum(cpu.values()), 1),
                "cores_busy": round(cpu_seconds / elapsed, 2),
            }
        )


def compute_means(results: Sequence[Figures], group: str) -> dict[str, float]:
    return {
        name: round(sum(figures[group][name] for figures in results) / len(results), 2)
        for name in results[0][group]
    }
