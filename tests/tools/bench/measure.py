"""Measures CPU time and memory of each part of an installation and of the load generator.

A part is a whole process tree. The load generator is this process.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

MICROSECONDS = 1e6
GENERATOR = "generator"
CURVE_PERCENTS = (0, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9, 100)
Sizes = dict[str, int]
Series = list[tuple[float, Sizes]]
"""Resident bytes of each part, by seconds since the start."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds since the start, and resident bytes, of each part."""

    cpu_seconds: dict[str, float]
    rss_bytes: Sizes


def measure_usage(pids: Mapping[str, int]) -> Usage:
    """Measures the process trees of `pids` and the load generator."""
    trees = {name: _list_processes(pid) for name, pid in pids.items()}
    trees[GENERATOR] = [psutil.Process()]  # without children: they are the other parts
    return Usage(
        {
            name: sum(_read_or_zero(process, _cpu_seconds) for process in tree)
            for name, tree in trees.items()
        },
        {
            name: int(sum(_read_or_zero(process, _rss_bytes) for process in tree))
            for name, tree in trees.items()
        },
    )


def compute_cpu_per_row(before: Usage, after: Usage, rows: int) -> dict[str, float]:
    """Returns microseconds of CPU per row, by part."""
    return {
        name: (after.cpu_seconds[name] - before.cpu_seconds[name]) / rows * MICROSECONDS
        for name in after.cpu_seconds
    }


def compute_busy_cores(before: Usage, after: Usage, seconds: float) -> float:
    """Returns the mean number of busy cores, including those of the load generator."""
    return (sum(after.cpu_seconds.values()) - sum(before.cpu_seconds.values())) / seconds


def compute_percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Computes p50, p90, p99 and the maximum in milliseconds, exactly, by nearest rank.

    It sorts all latencies: there are thousands, of 8 bytes each. A histogram (hdrhistogram) would
    bound the memory for millions, but adds a dependency and rounds.
    """
    ordered = sorted(seconds)
    return (
        {
            f"p{percent}" if percent < 100 else "max": _percentile_ms(ordered, percent)
            for percent in (50, 90, 99, 100)
        }
        if ordered
        else {}
    )


def summarize_latencies(seconds: Sequence[float]) -> dict[str, Any]:
    """Computes the percentiles, the number of latencies and a curve of (percent, milliseconds)."""
    ordered = sorted(seconds)
    curve = (
        [(percent, _percentile_ms(ordered, percent)) for percent in CURVE_PERCENTS]
        if ordered
        else []
    )
    return {"n": len(ordered), **compute_percentiles(ordered), "curve": curve}


def _percentile_ms(ordered: Sequence[float], percent: float) -> float:
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] * 1000, 1)


@contextmanager
def sample_memory(sizes: Callable[[], Sizes], every_seconds: float) -> Iterator[Series]:
    """Samples memory from a thread while the body runs."""
    series: Series = []
    ended = threading.Event()
    started = time.perf_counter()

    def take_samples() -> None:
        while not ended.is_set():
            series.append((round(time.perf_counter() - started, 1), sizes()))
            ended.wait(every_seconds)

    thread = threading.Thread(target=take_samples)
    thread.start()
    try:
        yield series
    finally:
        ended.set()
        thread.join()


def to_mebibytes(sizes: Mapping[str, int]) -> dict[str, int]:
    return {name: round(size / 2**20) for name, size in sizes.items()}


def _list_processes(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:  # a scenario stopped it
        return []


def _read_or_zero(process: psutil.Process, read: Callable[[psutil.Process], float]) -> float:
    try:
        return read(process)
    except psutil.NoSuchProcess:
        # It just ended, such as an autovacuum worker. Its parent counts its CPU
        return 0.0


def _cpu_seconds(process: psutil.Process) -> float:
    """Returns the CPU seconds of a process and its ended children, such as autovacuum workers.

    The load generator's children are excluded: they are servers.
    """
    times = process.cpu_times()
    own = float(times.user + times.system)
    return (
        own
        if process.pid == os.getpid()
        else own + float(times.children_user + times.children_system)
    )


def _rss_bytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss)
