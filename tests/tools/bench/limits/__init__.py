"""Measures the minimum cost of the pipeline's work.

Each part of the work runs alone, with the services' own code, in separate processes.
"""

from collections.abc import Callable, Mapping

from tests.tools.bench.figures import Figures
from tests.tools.bench.limits.broker import measure_broker
from tests.tools.bench.limits.computing import measure_computing
from tests.tools.bench.limits.database import measure_database
from tests.tools.bench.limits.inputs import LimitInputs

LIMITS: dict[str, Callable[[LimitInputs], Figures]] = {
    "database": measure_database,
    "broker": measure_broker,
    "computing": measure_computing,
}
FLOOR = "floor"


def compute_floor(results: Mapping[str, Figures]) -> Figures:
    """Computes the floor, which is the sum of the limits, and the pipeline's ratio to it.

    Returns nothing if a limit was not measured.
    """
    if any(name not in results for name in LIMITS):
        return {}
    cpu = {
        f"{name}: {part}": value
        for name in LIMITS
        for part, value in results[name]["cpu_us_per_row"].items()
    }
    in_all = sum(cpu.values())
    figures: Figures = {"cpu_us_per_row": cpu, "cpu_us_per_row_in_all": round(in_all, 1)}
    if "sustained" in results:
        figures["pipeline_over_floor"] = round(
            results["sustained"]["cpu_us_per_row_in_all"] / in_all, 2
        )
    return figures
