"""Scenarios of imports: at full speed, at half of it, alone, mixed, and a hundred at once."""

import uvloop

from tests.tools.bench.bodies import (
    build_csv_import,
    build_existing_rows,
    build_json_import,
    build_mixed_rows,
)
from tests.tools.bench.figures import Figures
from tests.tools.bench.load import Load
from tests.tools.bench.scenarios.bench import CONCURRENCY, MAX_UNSETTLED_IMPORTS, Bench
from tests.tools.bench.sources import HttpSource


def sustained(bench: Bench) -> Figures:
    """Submits at full speed with a bound on unsettled imports."""
    load = bench.new_load()
    return bench.measure_load(
        load, load.saturate(bench.lengths.seconds, CONCURRENCY, MAX_UNSETTLED_IMPORTS)
    )


def half_load(bench: Bench) -> Figures:
    """Submits at half of the maximum rate."""
    rate, load = bench.imports_per_second() / 2, bench.new_load()
    return bench.measure_load(load, load.send_at_rate(bench.lengths.seconds, rate))


def idle(bench: Bench) -> Figures:
    """Submits one import at a time. An import ends when a polling client sees its end.

    CPU and rates include the gaps and say little.
    """
    load = bench.new_load()
    return bench.measure_load(load, load.send_one_by_one(bench.lengths.idle_imports))


def mixed(bench: Bench) -> Figures:
    """Submits a mixed load: half of the workspaces send CSV.

    A tenth of the rows fails and a tenth exists already. The rest is new in each import.
    """
    workspaces = bench.installation.new_workspaces(bench.lengths.workspaces)
    existing_load = Load(
        bench.installation.base_url,
        [
            HttpSource(workspace, build_json_import(build_existing_rows(workspace)))
            for workspace in workspaces
        ],
    )
    uvloop.run(existing_load.fill(len(workspaces), CONCURRENCY))
    uvloop.run(existing_load.drain([]))
    existing_load.require_exact()
    prepared_imports = [
        (build_csv_import if number % 2 else build_json_import)(*build_mixed_rows(workspace))
        for number, workspace in enumerate(workspaces)
    ]
    load = Load(
        bench.installation.base_url,
        [
            HttpSource(workspace, prepared_import)
            for workspace, prepared_import in zip(workspaces, prepared_imports, strict=True)
        ],
    )
    return bench.measure_load(
        load, load.saturate(bench.lengths.seconds, CONCURRENCY, MAX_UNSETTLED_IMPORTS)
    )


def burst(bench: Bench) -> Figures:
    """Submits many imports at once."""
    load = bench.new_load()
    return bench.measure_load(load, load.send_burst(bench.lengths.burst_imports))
