"""Scenarios by name. Each is a function that takes a Bench and returns figures."""

from collections.abc import Callable

from tests.tools.bench.figures import Figures
from tests.tools.bench.scenarios.bench import Bench
from tests.tools.bench.scenarios.imports import burst, half_load, idle, mixed, sustained
from tests.tools.bench.scenarios.lists import catalogue
from tests.tools.bench.scenarios.long_runs import backlog, growth, soak
from tests.tools.bench.scenarios.single_requests import pins, queries
from tests.tools.bench.scenarios.topic_requests import topic

Scenario = Callable[[Bench], Figures]

DEFAULT_SCENARIOS: dict[str, Scenario] = {
    "idle": idle,
    "sustained": sustained,
    "half-load": half_load,
    "mixed": mixed,
    "topic": topic,
    "pins": pins,
    "queries": queries,
    "burst": burst,
}
"""Scenarios of a run without options, in this order: later ones use the rate of earlier ones."""
LONG_SCENARIOS: dict[str, Scenario] = {
    "growth": growth,
    "backlog": backlog,
    "soak": soak,
    "catalogue": catalogue,
}
"""Scenarios that run only on request."""
# growth is first: it needs an empty store
ALL_SCENARIOS = {"growth": growth} | DEFAULT_SCENARIOS | LONG_SCENARIOS
