"""Parsing, validation, decoding, deciding and writing alone: no server, no network.

Both cores are kept busy, as the pipeline does.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from services.publisher.rows.outcomes import EMPTY_HISTORY, build_snapshot, decide_all
from services.status.folding import fold
from shared.contract.events import MAX_ROWS
from tests.tools.bench.figures import Figures
from tests.tools.bench.limits import material
from tests.tools.bench.limits.apart import apart, mean_of
from tests.tools.bench.limits.given import Limits

CORES = 2
IMPORTS_AT_ONCE = 4


def measure_computing(limits: Limits) -> Figures:
    """Where the pipeline's parts stand in each other's way for caches and memory, so must these: a
    process a core.
    """
    processes = min(CORES, os.cpu_count() or 1)
    found = apart(_measure, limits.lengths.limit_seconds, processes=processes)
    cpu = mean_of(found, "cpu_us_per_row")
    return {
        "rows": sum(one["rows"] for one in found),
        "cpu_us_per_row": cpu,
        "cpu_us_per_row_in_all": round(sum(cpu.values()), 1),
        "cores_busy": round(sum(one["cores_busy"] for one in found), 2),
    }


class _Clocks:
    """CPU seconds of each service's part."""

    def __init__(self) -> None:
        self.seconds = {"ingest": 0.0, "publisher": 0.0, "status": 0.0}

    @contextmanager
    def of(self, service: str) -> Iterator[None]:
        started = time.thread_time()
        yield
        self.seconds[service] += time.thread_time() - started


def _measure(seconds: float) -> Figures:
    _go_through(_Clocks())  # what is only done the first time
    clocks, rows = _Clocks(), 0
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() < started + seconds:
        rows += _go_through(clocks)
    took = time.perf_counter() - started
    return {
        "rows": rows,
        "cpu_us_per_row": {name: value / rows * 1e6 for name, value in clocks.seconds.items()},
        "cores_busy": (time.process_time() - cpu) / took,
    }


def _go_through(clocks: _Clocks) -> int:
    bodies = [material.BODY.fresh() for _ in range(IMPORTS_AT_ONCE)]
    with clocks.of("ingest"):
        imports = [material.accept(body) for body in bodies]
    with clocks.of("publisher"):
        rows = material.read_rows(imports)
    # The store's part: counted with the database
    snapshot = build_snapshot(rows, EMPTY_HISTORY, {}, datetime.now(UTC))
    with clocks.of("publisher"):
        announced = material.announce(decide_all(rows, {}, snapshot))
    with clocks.of("status"):
        fold(material.read_events(imports, announced.outcomes))
    return IMPORTS_AT_ONCE * MAX_ROWS
