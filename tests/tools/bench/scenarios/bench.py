"""Context of every scenario: one installation, durations, and this round's results."""

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from deploy.administration import NewWorkspace
from shared.contract.events import MAX_ROWS
from tests.tools.bench.batches import BatchTotals, compute_mean_batch_sizes
from tests.tools.bench.disk_usage import DiskUsage, compute_bytes_per_row
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import Installation
from tests.tools.bench.load import Load
from tests.tools.bench.measure import (
    GENERATOR,
    Usage,
    compute_busy_cores,
    compute_cpu_per_row,
    summarize_latencies,
    to_mebibytes,
)
from tests.tools.bench.sources import HttpSource

CONCURRENCY = 4
MAX_UNSETTLED_IMPORTS = 150
"""Maximum number of accepted imports that have not settled: enough to keep every stage busy.

More than `CONCURRENCY` clients would only take CPU from the pipeline.
"""
PROBE_SECONDS = 15.0


@dataclass(frozen=True)
class Lengths:
    """Durations and sizes of one round's scenarios."""

    seconds: float = 60.0
    """Duration of scenarios under load. Peers and `topic`, `pins` and `queries` take a third."""
    warm_up_seconds: float = 30.0
    """Duration of the load before the measurement.

    In a broker's first half minute under load its JIT compiler takes 7 µs per row, which
    the figures should not contain.
    """
    idle_imports: int = 100
    burst_imports: int = 100
    workspaces: int = 20
    backlog_rows: int = 1_000_000
    grow_rows: int = 5_000_000
    soak_minutes: float = 30.0
    catalogue_pins: int = 5_000_000

    @property
    def short_seconds(self) -> float:
        """Duration of short scenarios."""
        return self.seconds / 3

    @property
    def limit_seconds(self) -> float:
        """Duration of a limit. It is short, because a limit has no backlog that builds up first."""
        return self.seconds / 6


@dataclass(frozen=True)
class ResourceSnapshot:
    """Resources used up to one moment."""

    usage: Usage
    disk_usage: DiskUsage
    batches: BatchTotals


@dataclass
class Bench:
    """Runs loads on one installation and builds their figures."""

    installation: Installation
    lengths: Lengths
    results: dict[str, Figures] = field(default_factory=dict)
    """This round's figures, by scenario."""
    probed_rate: float | None = None
    """Imports per second of the short probe, once it has run."""

    def new_load(self, workspaces: Sequence[NewWorkspace] | None = None) -> Load:
        """Creates a load of JSON imports, from one new workspace by default."""
        return Load(
            self.installation.base_url,
            [
                HttpSource(workspace)
                for workspace in workspaces or self.installation.new_workspaces(1)
            ],
        )

    def warm_up(self) -> None:
        uvloop.run(
            self.new_load().saturate(
                self.lengths.warm_up_seconds, CONCURRENCY, MAX_UNSETTLED_IMPORTS
            )
        )

    def imports_per_second(self) -> float:
        """Returns the maximum rate: this round's sustained rate, or that of a short probe."""
        if (sustained := self.results.get("sustained")) is not None:
            return float(sustained["rows_per_second"]) / MAX_ROWS
        if self.probed_rate is None:
            load = self.new_load()
            elapsed = uvloop.run(
                load.saturate(
                    min(PROBE_SECONDS, self.lengths.seconds), CONCURRENCY, MAX_UNSETTLED_IMPORTS
                )
            )
            self.probed_rate = load.imports / elapsed
        return self.probed_rate

    def take_snapshot(self) -> ResourceSnapshot:
        return ResourceSnapshot(
            self.installation.usage(), self.installation.disk_usage(), self.installation.batches()
        )

    def measure_load(self, load: Load, work: Coroutine[Any, Any, float]) -> Figures:
        """Runs `work`, which drives the load and returns its duration, and builds the figures.

        Fails if a row does not have its expected outcome.
        """
        before = self.take_snapshot()
        elapsed = uvloop.run(work)
        return self.build_figures(load, before, elapsed)

    def build_figures(self, load: Load, before: ResourceSnapshot, elapsed: float) -> Figures:
        after = self.take_snapshot()
        load.require_exact()
        return {
            "imports": load.imports,
            "refused": load.refused,
            "outcomes": load.outcomes._asdict(),
            "accepted_ms": summarize_latencies(load.accepted_latencies),
            "settled_ms": summarize_latencies(load.settled_latencies),
            **compute_costs(before, after, load.rows, elapsed),
        }


def compute_costs(
    before: ResourceSnapshot, after: ResourceSnapshot, rows: int, elapsed: float
) -> Figures:
    """Computes the resources that `rows` rows used. The load generator's CPU is separate."""
    cpu = {
        name: round(value, 2)
        for name, value in compute_cpu_per_row(before.usage, after.usage, rows).items()
    }
    generator = cpu.pop(GENERATOR)
    return {
        "rows": rows,
        "seconds": round(elapsed, 2),
        "rows_per_second": round(rows / elapsed),
        "cpu_us_per_row": cpu,
        "cpu_us_per_row_in_all": round(sum(cpu.values()), 1),
        "generator_us_per_row": generator,
        "cores_busy": round(compute_busy_cores(before.usage, after.usage, elapsed), 2),
        "bytes_per_row": compute_bytes_per_row(before.disk_usage, after.disk_usage, rows),
        "records_in_a_batch": compute_mean_batch_sizes(before.batches, after.batches),
        "rss_mib": to_mebibytes(after.usage.rss_bytes),
    }
