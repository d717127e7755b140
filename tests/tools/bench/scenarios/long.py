"""What takes its time: a backlog, a store that grows, half an hour of half load."""

from bisect import bisect_left

import uvloop

from shared.contract.events import MAX_ROWS
from tests.tools.bench.figures import Figures
from tests.tools.bench.measure import sampled
from tests.tools.bench.scenarios.bench import CONCURRENCY, MOST_UNSETTLED, Bench

LOOK_SECONDS = 1.0
SOAK_LOOK_SECONDS = 5.0
STEPS = 5
BEGUN, DRAINED = 0.02, 0.98
"""Parts of a backlog between which its rate is taken: not while the publisher starts, nor of the
last batches.
"""


def backlog(bench: Bench) -> Figures:
    """Imports are accepted while no publisher runs; then how fast one drains them, and its memory
    meanwhile.
    """
    installation, rows = bench.installation, bench.lengths.backlog_rows
    load, limit = bench.new_load(), str(2 * rows)
    progress: list[tuple[float, int]] = []
    with installation.setting(
        "ingest", max_unsettled_rows_per_workspace=limit, max_unsettled_rows=limit
    ):
        installation.stop("publisher")
        filled = uvloop.run(load.fill(rows // MAX_ROWS, CONCURRENCY))
        installation.start("publisher")
        before = bench.look()
        with sampled(lambda: installation.usage().rss_bytes, LOOK_SECONDS) as series:
            took = uvloop.run(load.drain(progress))
        figures = bench.figures(load, before, took)
    return {
        **figures,
        "accepted_rows_per_second": round(load.rows / filled),
        "drained_rows_per_second": round(_rate(progress, load.imports) * MAX_ROWS),
        "publisher_rss_mb": max(sizes["publisher"] for _, sizes in series) >> 20,
        "progress": progress,
        "rss_series": series,
    }


def _rate(progress: list[tuple[float, int]], imports: int) -> float:
    """Imports a second, between the first and the last looks that count."""
    counts = [count for _, count in progress]
    first, last = bisect_left(counts, BEGUN * imports), bisect_left(counts, DRAINED * imports)
    (began, some), (ended, most) = progress[max(0, first - 1)], progress[last]
    return (most - some) / (ended - began) if ended > began else 0.0


def growth(bench: Bench) -> Figures:
    """CPU a row of the same short load at 0 publications and each fifth of the way, filled through
    the pipeline itself.
    """
    aim, points = bench.lengths.grow_rows, []
    stands = 0
    for step in range(STEPS + 1):
        while (missing := aim * step // STEPS - stands) > 0:
            filling = bench.new_load()
            uvloop.run(
                filling.saturate(
                    bench.lengths.seconds, CONCURRENCY, MOST_UNSETTLED, most=-(-missing // MAX_ROWS)
                )
            )
            stands += filling.rows
        probe = bench.new_load()
        figures = bench.measured(
            probe, probe.saturate(bench.lengths.short, CONCURRENCY, MOST_UNSETTLED)
        )
        names = ("rows_per_second", "cpu_us_per_row", "cpu_us_per_row_in_all", "bytes_per_row")
        points.append({"publications": stands, **{name: figures[name] for name in names}})
        stands += probe.rows
    first, last = (points[number]["cpu_us_per_row_in_all"] for number in (0, -1))
    return {"publications": stands, "cpu_growth": round(last / first - 1, 3), "points": points}


def soak(bench: Bench) -> Figures:
    rate, load = bench.imports_per_second() / 2, bench.new_load()
    with sampled(lambda: bench.installation.usage().rss_bytes, SOAK_LOOK_SECONDS) as series:
        figures = bench.measured(load, load.pace(bench.lengths.soak_minutes * 60, rate))
    first, last = series[len(series) // 4][1], series[-1][1]
    growth_mb = {name: round((size - first[name]) / 2**20, 1) for name, size in last.items()}
    return {**figures, "rss_growth_mb_after_a_quarter": growth_mb, "rss_series": series}
