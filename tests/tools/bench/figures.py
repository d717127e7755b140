"""What a measurement gives, and what several rounds of it give together."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Figures = dict[str, Any]
"""Numbers by name, some of them grouped in further dictionaries.

Lists are for plots: a round's own, of which there is no median.
"""


def summarised(rounds: Sequence[Mapping[str, Any]]) -> Figures:
    """Median, least and most of every number that all rounds have, in the same groups."""
    summary: Figures = {}
    for name, first in rounds[0].items():
        values = [found[name] for found in rounds if name in found]
        if len(values) < len(rounds):
            continue
        if isinstance(first, Mapping):
            summary[name] = summarised(values)
        elif isinstance(first, int | float):
            summary[name] = {"median": median(values), "min": min(values), "max": max(values)}
    return summary


def last_round(report: Mapping[str, Any]) -> Mapping[str, Figures]:
    """Its figures: curves and series are a round's own.

    None of a report that has only a summary.
    """
    rounds: Sequence[Mapping[str, Figures]] = report.get("rounds", ())
    return rounds[-1] if rounds else {}


def median_of(summary: Mapping[str, Any], *path: str) -> float | None:
    """A number of a summary, by the names of its groups; None where it has none."""
    found: Any = summary
    for name in (*path, "median"):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return float(found)
