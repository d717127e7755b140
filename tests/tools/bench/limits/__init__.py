"""What the same work costs at the least: each part of it alone, by the services' own code, in
processes of its own.
"""

from collections.abc import Callable, Mapping

from tests.tools.bench.figures import Figures
from tests.tools.bench.limits.broker import measure_broker
from tests.tools.bench.limits.computing import measure_computing
from tests.tools.bench.limits.database import measure_database
from tests.tools.bench.limits.given import Limits

LIMITS: dict[str, Callable[[Limits], Figures]] = {
    "database": measure_database,
    "broker": measure_broker,
    "computing": measure_computing,
}
FLOOR = "floor"


def floor(found: Mapping[str, Figures]) -> Figures:
    """The sum of the limits, and how much more the pipeline takes than that.

    Without all of them there is none.
    """
    if any(name not in found for name in LIMITS):
        return {}
    cpu = {
        f"{name}: {part}": value
        for name in LIMITS
        for part, value in found[name]["cpu_us_per_row"].items()
    }
    in_all = sum(cpu.values())
    figures: Figures = {"cpu_us_per_row": cpu, "cpu_us_per_row_in_all": round(in_all, 1)}
    if "sustained" in found:
        figures["pipeline_over_floor"] = round(
            found["sustained"]["cpu_us_per_row_in_all"] / in_all, 2
        )
    return figures
