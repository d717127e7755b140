"""CPU time and memory of each part of an installation, whole process trees, and of this process: the load generator."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Usage:
    """CPU seconds since start, and resident bytes."""

    cpu_seconds: dict[str, float]
    rss_bytes: dict[str, int]


def usage(pids: Mapping[str, int]) -> Usage:
    trees = {name: _tree(pid) for name, pid in pids.items()}
    trees["generator"] = [psutil.Process()]  # all the others are its children
    return Usage(
        {name: sum(_cpu(process) for process in tree) for name, tree in trees.items()},
        {name: sum(_rss(process) for process in tree) for name, tree in trees.items()},
    )


def cpu_per_row(before: Usage, after: Usage, rows: int) -> dict[str, float]:
    """Microseconds of CPU a row, by part."""
    return {name: (after.cpu_seconds[name] - before.cpu_seconds[name]) / rows * MICROSECONDS for name in after.cpu_seconds}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the maximum, in milliseconds; nearest rank."""
    ordered = sorted(seconds)
    chosen = {f"p{percent}": ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] for percent in (50, 90, 99)}
    return {name: round(value * 1000, 1) for name, value in (chosen | {"max": ordered[-1]}).items()}


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    """With what its ended children had used, an autovacuum worker's for one; but not the generator's, whose ended children are servers."""
    times = process.cpu_times()
    own = float(times.user + times.system)
    return own if process.pid == os.getpid() else own + float(times.children_user + times.children_system)


def _rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)
