"""Measures in rounds. A round measures everything once, so machine drift affects all alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from rich.console import Console

from tests.tools.bench.cores import pin_to_cores
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import (
    DEFAULT_SHAPE,
    PRODUCTION_OPTIONS,
    BenchServers,
    DeploymentShape,
    ServerOptions,
    bench_servers,
    installation,
)
from tests.tools.bench.limits import FLOOR, LIMITS, compute_floor
from tests.tools.bench.limits.inputs import LimitInputs
from tests.tools.bench.scenarios import ALL_SCENARIOS
from tests.tools.bench.scenarios.bench import Bench, Lengths
from tests.tools.bench.table import create_console

RoundResults = dict[str, Figures]
"""Figures by the name of the scenario, limit or peer."""


class ExtraMeasurement(NamedTuple):
    """A further measurement of every round, such as a peer, on servers of its own.

    It runs when Pinflow's own processes have stopped.
    """

    name: str
    measure: Callable[[], Figures]


@dataclass
class BenchRun:
    """Measurements to run, and their results."""

    lengths: Lengths
    scenarios: Sequence[str]
    limits: Sequence[str]
    extra_measurements: Sequence[ExtraMeasurement] = ()
    server_options: ServerOptions = PRODUCTION_OPTIONS
    shape: DeploymentShape = DEFAULT_SHAPE
    console: Console = field(default_factory=create_console)
    settings: Figures = field(default_factory=dict)
    rounds: list[RoundResults] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Failed measurements. They do not end the run, which may have taken an hour."""
    on_progress: Callable[[], None] = lambda: None
    """Called whenever there are new results to save."""

    def run_rounds(self, rounds: int) -> None:
        """Runs all rounds. A measurement that fails is added to `faults`, and the run continues."""
        for number in range(1, rounds + 1):
            self.console.rule(f"round {number} of {rounds}")
            results: RoundResults = {}
            self.rounds.append(results)
            if self.scenarios or self.limits:
                self._measure_pinflow(results)
            for measurement in self.extra_measurements:
                self._measure(results, measurement.name, measurement.measure)

    def _measure_pinflow(self, results: RoundResults) -> None:
        """Measures scenarios on new servers, so that no round has another's rows.

        The limits run on the same servers when the services have stopped.
        """
        with pin_to_cores(self.shape.server_cores), bench_servers(self.server_options) as servers:
            if self.scenarios:
                self._warm_up(servers)
                with installation(servers, self.shape) as pinflow:
                    self.settings = pinflow.settings()
                    bench = Bench(pinflow, self.lengths, results)
                    for name in self.scenarios:
                        self._measure(results, name, partial(ALL_SCENARIOS[name], bench))
            limits = LimitInputs(servers, self.lengths, results)
            for name in self.limits:
                self._measure(results, name, partial(LIMITS[name], limits))
            if figures := compute_floor(results):
                results[FLOOR] = figures

    def _warm_up(self, servers: BenchServers) -> None:
        """Warms up the servers through other services, so that scenarios find an empty store."""
        if self.lengths.warm_up_seconds:
            self.console.print("Warming up")
            with installation(servers, self.shape) as pinflow:
                Bench(pinflow, self.lengths).warm_up()

    def _measure(self, results: RoundResults, name: str, measure: Callable[[], Figures]) -> None:
        started = time.perf_counter()
        try:
            results[name] = measure()
        except Exception as error:  # noqa: BLE001 - any failure is reported, none ends the run
            self.console.print_exception()
            self.faults.append(f"round {len(self.rounds)}, {name}: {error!r}")
            return
        self.console.print(f"Measured {name} in {time.perf_counter() - started:.1f} s")
        self.on_progress()
