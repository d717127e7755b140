"""Each scenario is a function of a Bench, under one name."""

from collections.abc import Callable

from tests.bench.figures import Figures
from tests.bench.scenarios.bench import Bench
from tests.bench.scenarios.imports import burst, half_load, idle, mixed, sustained

Scenario = Callable[[Bench], Figures]

USUAL: dict[str, Scenario] = {
    "idle": idle,
    "sustained": sustained,
    "half-load": half_load,
    "mixed": mixed,
    "burst": burst,
}
"""In this order: what comes later builds on the rate that was found before."""
LONG: dict[str, Scenario] = {}
"""Only when asked for."""
ALL = USUAL | LONG
