"""Imports at their fastest, at half of that, alone, mixed, and a hundred at once."""

import uvloop

from tests.tools.bench.bodies import csv_body, json_body, mixed_rows, standing_rows
from tests.tools.bench.figures import Figures
from tests.tools.bench.load import Load
from tests.tools.bench.scenarios.bench import CONCURRENCY, MOST_UNSETTLED, Bench
from tests.tools.bench.sources import HttpSource


def sustained(bench: Bench) -> Figures:
    load = bench.new_load()
    return bench.measured(load, load.saturate(bench.lengths.seconds, CONCURRENCY, MOST_UNSETTLED))


def half_load(bench: Bench) -> Figures:
    rate, load = bench.imports_per_second() / 2, bench.new_load()
    return bench.measured(load, load.pace(bench.lengths.seconds, rate))


def idle(bench: Bench) -> Figures:
    """The end of an import is when a client that polls sees it; CPU and rates include the gaps, and
    say little.
    """
    load = bench.new_load()
    return bench.measured(load, load.one_by_one(bench.lengths.idle_imports))


def mixed(bench: Bench) -> Figures:
    """Half of the workspaces send CSV.

    A tenth of the rows fails, a tenth stands already; the parts are new with each import.
    """
    workspaces = bench.installation.new_workspaces(bench.lengths.workspaces)
    standing = Load(
        bench.installation.base_url,
        [HttpSource(one, json_body(standing_rows(one))) for one in workspaces],
    )
    uvloop.run(standing.fill(len(workspaces), CONCURRENCY))
    uvloop.run(standing.drain([]))
    standing.require_exact()
    bodies = [
        (csv_body if number % 2 else json_body)(*mixed_rows(one))
        for number, one in enumerate(workspaces)
    ]
    load = Load(
        bench.installation.base_url,
        [HttpSource(one, body) for one, body in zip(workspaces, bodies, strict=True)],
    )
    return bench.measured(load, load.saturate(bench.lengths.seconds, CONCURRENCY, MOST_UNSETTLED))


def burst(bench: Bench) -> Figures:
    load = bench.new_load()
    return bench.measured(load, load.burst(bench.lengths.burst_imports))
