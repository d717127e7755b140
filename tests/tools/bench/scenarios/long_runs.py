"""Long scenarios: a backlog, a growing store, and half an hour of half load."""

from bisect import bisect_left

import uvloop

from shared.contract.events import MAX_ROWS
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import sample_memory
from tests.tools.bench.scenarios.bench import CONCURRENCY, MAX_UNSETTLED_IMPORTS, Bench

SAMPLE_SECONDS = 1.0
SOAK_SAMPLE_SECONDS = 5.0
STEPS = 5
RATE_START, RATE_END = 0.02, 0.98
"""Fractions of the backlog between which its drain rate is measured.

This leaves out the publisher's start and the last batches.
"""


def backlog(bench: Bench) -> Figures:
    """Fills a backlog without a publisher, then measures a publisher's drain rate and memory."""
    installation, rows = bench.installation, bench.lengths.backlog_rows
    load, limit = bench.new_load(), str(2 * rows)
    progress: list[tuple[float, int]] = []
    with installation.changed_settings(
        "ingest", max_unsettled_rows_per_workspace=limit, max_unsettled_rows=limit
    ):
        installation.stop("publisher")
        filled = uvloop.run(load.fill(rows // MAX_ROWS, CONCURRENCY))
        installation.start("publisher")
        before = bench.take_snapshot()
        with sample_memory(lambda: installation.usage().rss_bytes, SAMPLE_SECONDS) as series:
            elapsed = uvloop.run(load.drain(progress))
        figures = bench.build_figures(load, before, elapsed)
    return {
        **figures,
        "accepted_rows_per_second": round(load.rows / filled),
        "drained_rows_per_second": round(_compute_drain_rate(progress, load.imports) * MAX_ROWS),
        "publisher_rss_mib": max(sizes["publisher"] for _, sizes in series) >> 20,
        "progress": progress,
        "rss_series": series,
    }


def _compute_drain_rate(progress: list[tuple[float, int]], imports: int) -> float:
    """Computes imports per second between the first and the last sample that count."""
    counts = [count for _, count in progress]
    first, last = bisect_left(counts, RATE_START * imports), bisect_left(counts, RATE_END * imports)
    (start_time, start_count), (end_time, end_count) = progress[max(0, first - 1)], progress[last]
    return (end_count - start_count) / (end_time - start_time) if end_time > start_time else 0.0


def growth(bench: Bench) -> Figures:
    """Measures CPU per row of the same short load as the store grows.

    It measures at 0 publications and after each fifth of the goal. The pipeline itself fills the
    store.
    """
    goal, points = bench.lengths.grow_rows, []
    stored_rows = 0
    for step in range(STEPS + 1):
        while (missing := goal * step // STEPS - stored_rows) > 0:
            filling = bench.new_load()
            uvloop.run(
                filling.saturate(
                    bench.lengths.seconds,
                    CONCURRENCY,
                    MAX_UNSETTLED_IMPORTS,
                    max_imports=-(-missing // MAX_ROWS),
                )
            )
            stored_rows += filling.rows
        probe = bench.new_load()
        figures = bench.measure_load(
            probe, probe.saturate(bench.lengths.short_seconds, CONCURRENCY, MAX_UNSETTLED_IMPORTS)
        )
        names = ("rows_per_second", "cpu_us_per_row", "cpu_us_per_row_in_all", "bytes_per_row")
        points.append({"publications": stored_rows, **{name: figures[name] for name in names}})
        stored_rows += probe.rows
    first, last = (points[number]["cpu_us_per_row_in_all"] for number in (0, -1))
    return {"publications": stored_rows, "cpu_growth": round(last / first - 1, 3), "points": points}


def soak(bench: Bench) -> Figures:
    """Submits at half of the maximum rate for a long time, and measures how memory grows."""
    rate, load = bench.imports_per_second() / 2, bench.new_load()
    with sample_memory(lambda: bench.installation.usage().rss_bytes, SOAK_SAMPLE_SECONDS) as series:
        figures = bench.measure_load(load, load.send_at_rate(bench.lengths.soak_minutes * 60, rate))
    first, last = series[len(series) // 4][1], series[-1][1]
    growth_mib = {name: round((size - first[name]) / 2**20, 1) for name, size in last.items()}
    return {**figures, "rss_growth_mib_after_a_quarter": growth_mib, "rss_series": series}
