"""What the same work costs at the least, each part of it alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.figures import Figures
from tests.bench.installation import BenchServers
from tests.bench.scenarios.bench import Lengths


@dataclass(frozen=True)
class Limits:
    """Servers without services, and what this round has found so far."""

    servers: BenchServers
    lengths: Lengths
    found: Mapping[str, Figures]


LIMITS: dict[str, Callable[[Limits], Figures]] = {}
