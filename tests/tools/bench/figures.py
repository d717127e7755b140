"""What a measurement gives, and what several rounds of it give together."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Figures = dict[str, Any]
"""Numbers by name, some of them grouped in further dictionaries.

Lists are for plots: a round's own, of which there is no median.
"""


def summarize(rounds: Sequence[Mapping[str, Any]]) -> Figures:
    """Median, least and most of every number that all rounds have, in the same groups."""
    summary: Figures = {}
    for name, first in rounds[0].items():
        values = [value[name] for value in rounds if name in value]
        if len(values) < len(rounds):
            continue
        if isinstance(first, Mapping):
            summary[name] = summarize(values)
        elif isinstance(first, int | float):
            summary[name] = {"median": median(values), "min": min(values), "max": max(values)}
    return summary


def get_last_round(report: Mapping[str, Any]) -> Mapping[str, Figures]:
    """Its figures: curves and series are a round's own.

    None of a report that has only a summary.
    """
    rounds: Sequence[Mapping[str, Figures]] = report.get("rounds", ())
    return rounds[-1] if rounds else {}


def find_median(summary: Mapping[str, Any], *path: str) -> float | None:
    """A number of a summary, by the names of its groups; None where it has none."""
    value: Any = summary
    for name in (*path, "median"):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return float(value)
