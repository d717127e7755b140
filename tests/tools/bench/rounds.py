"""The rounds: each goes once through all that is measured, so that a machine that drifts drifts for
all alike.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from rich.console import Console

from tests.tools.bench.cores import on
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import (
    ALONE,
    LIKE_PRODUCTION,
    BenchServers,
    Shape,
    Style,
    bench_servers,
    installation,
)
from tests.tools.bench.limits import FLOOR, LIMITS, floor
from tests.tools.bench.limits.given import Limits
from tests.tools.bench.scenarios import ALL
from tests.tools.bench.scenarios.bench import Bench, Lengths
from tests.tools.bench.table import console

Round = dict[str, Figures]
"""Figures by the name of what was measured."""


class Measurable(NamedTuple):
    """Something else to measure in every round, when Pinflow's own processes are gone: a peer, on
    servers of its own.
    """

    name: str
    measure: Callable[[], Figures]


@dataclass
class Run:
    """What is to be measured, and what was."""

    lengths: Lengths
    scenarios: Sequence[str]
    limits: Sequence[str]
    others: Sequence[Measurable] = ()
    style: Style = LIKE_PRODUCTION
    shape: Shape = ALONE
    console: Console = field(default_factory=console)
    settings: Figures = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What could not be measured: an hour's other figures must not be lost with it."""
    noted: Callable[[], None] = lambda: None
    """Called when there is something new to write down."""

    def go(self, rounds: int) -> None:
        """Goes on when something can't be measured: see `faults`."""
        for number in range(1, rounds + 1):
            self.console.rule(f"round {number} of {rounds}")
            found: Round = {}
            self.rounds.append(found)
            if self.scenarios or self.limits:
                self._measure_pinflow(found)
            for one in self.others:
                self._note(found, one.name, one.measure)

    def _measure_pinflow(self, found: Round) -> None:
        """On new servers each time: no round inherits another's rows.

        The limits on the same ones, when the services have stopped.
        """
        with on(self.shape.servers_cores), bench_servers(self.style) as servers:
            if self.scenarios:
                self._warm_up(servers)
                with installation(servers, self.shape) as pinflow:
                    self.settings = pinflow.settings()
                    bench = Bench(pinflow, self.lengths, found)
                    for name in self.scenarios:
                        self._note(found, name, partial(ALL[name], bench))
            limits = Limits(servers, self.lengths, found)
            for name in self.limits:
                self._note(found, name, partial(LIMITS[name], limits))
            if figures := floor(found):
                found[FLOOR] = figures

    def _warm_up(self, servers: BenchServers) -> None:
        """By services of its own: what is measured begins with an empty store."""
        if self.lengths.warm_up_seconds:
            self.console.print("warming up")
            with installation(servers, self.shape) as pinflow:
                Bench(pinflow, self.lengths).warm_up()

    def _note(self, found: Round, name: str, measure: Callable[[], Figures]) -> None:
        started = time.perf_counter()
        try:
            found[name] = measure()
        except Exception as error:  # noqa: BLE001 - whatever it was
            self.console.print_exception()
            self.faults.append(f"round {len(self.rounds)}, {name}: {error!r}")
            return
        self.console.print(f"measured {name} in {time.perf_counter() - started:.1f} s")
        self.noted()
