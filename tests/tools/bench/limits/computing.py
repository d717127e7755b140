"""Measures the computing alone: parsing, validation, decoding, deciding and encoding.

There is no server and no network. Two processes run at the same time, if there are two cores.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from services.publisher.rows.outcomes import decide_all
from services.publisher.rows.snapshot import build_snapshot
from services.status.folding import group_by_job
from shared.contract.events import MAX_ROWS
from tests.support.factories import NOTHING_RECORDED
from tests.tools.bench.figures import Figures
from tests.tools.bench.limits import pipeline_steps
from tests.tools.bench.limits.inputs import LimitInputs
from tests.tools.bench.limits.processes import compute_means, run_in_processes

MAX_PROCESSES = 2
IMPORTS_AT_ONCE = 4


def measure_computing(limits: LimitInputs) -> Figures:
    """Runs two processes at the same time, or one on a single core.

    The pipeline's parts compete for caches and memory too.
    """
    processes = min(MAX_PROCESSES, os.cpu_count() or 1)
    results = run_in_processes(_measure, limits.lengths.limit_seconds, processes=processes)
    cpu = compute_means(results, "cpu_us_per_row")
    return {
        "rows": sum(result["rows"] for result in results),
        "cpu_us_per_row": cpu,
        "cpu_us_per_row_in_all": round(sum(cpu.values()), 1),
        "cores_busy": round(sum(result["cores_busy"] for result in results), 2),
    }


class _CpuClocks:
    """CPU seconds of each service's part."""

    def __init__(self) -> None:
        self.seconds = {"ingest": 0.0, "publisher": 0.0, "status": 0.0}

    @contextmanager
    def measure(self, service: str) -> Iterator[None]:
        started = time.thread_time()
        yield
        self.seconds[service] += time.thread_time() - started


def _measure(seconds: float) -> Figures:
    _run_pipeline(_CpuClocks())  # warms up what only the first call does
    clocks, rows = _CpuClocks(), 0
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() < started + seconds:
        rows += _run_pipeline(clocks)
    elapsed = time.perf_counter() - started
    return {
        "rows": rows,
        "cpu_us_per_row": {name: value / rows * 1e6 for name, value in clocks.seconds.items()},
        "cores_busy": (time.process_time() - cpu) / elapsed,
    }


def _run_pipeline(clocks: _CpuClocks) -> int:
    bodies = [pipeline_steps.BODY.build_copy() for _ in range(IMPORTS_AT_ONCE)]
    with clocks.measure("ingest"):
        imports = [pipeline_steps.build_import(body) for body in bodies]
    with clocks.measure("publisher"):
        rows = pipeline_steps.decode_rows(imports)
    # Outside the clocks: the database's limit includes the store's part
    snapshot = build_snapshot(rows, NOTHING_RECORDED, {}, datetime.now(UTC))
    with clocks.measure("publisher"):
        publisher_records = pipeline_steps.build_publisher_records(decide_all(rows, {}, snapshot))
    with clocks.measure("status"):
        group_by_job(pipeline_steps.decode_status_events(imports, publisher_records.outcomes))
    return IMPORTS_AT_ONCE * MAX_ROWS
