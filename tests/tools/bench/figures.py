"""Figures of one measurement, and their summary over several rounds."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Figures = dict[str, Any]
"""Numbers by name, some of them grouped in nested dictionaries.

Lists are data for plots. They belong to one round and have no median.
"""


def summarize(rounds: Sequence[Mapping[str, Any]]) -> Figures:
    """Computes median, minimum and maximum of every number that is in all rounds, by group."""
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
    """Returns the last round's figures, because curves and series belong to one round.

    Returns an empty mapping if the report has only a summary.
    """
    rounds: Sequence[Mapping[str, Figures]] = report.get("rounds", ())
    return rounds[-1] if rounds else {}


def find_median(summary: Mapping[str, Any], *path: str) -> float | None:
    """Returns the median of the number at a path of group names, or None if there is none."""
    value: Any = summary
    for name in (*path, "median"):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return float(value)
