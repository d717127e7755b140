"""The report as tables in a terminal: medians, and the spread where there were several rounds."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figures, median_of

WIDTH = 150
"""Where it is not a terminal that says how wide it is."""
TIMES = ("p50", "p90", "p99", "max")


def console() -> Console:
    own = Console()
    return own if own.is_terminal else Console(width=WIDTH)


def show(report: Figures, console: Console) -> None:
    summary = report["summary"]
    console.print(_speed(summary))
    console.print(_parts("CPU, µs a row", summary, "cpu_us_per_row", extra=("cpu_us_per_row_in_all", "generator_us_per_row")))
    console.print(_parts("Bytes a row", summary, "bytes_per_row"))
    console.print(_parts("Resident memory at the end, MB", summary, "rss_mb"))


def _speed(summary: Mapping[str, Figures]) -> Table:
    table = Table("", "rows/s", "202 p50 / p90 / p99 / max, ms", "submitted → settled, ms", "cores busy", title="Speed and latency")
    for name, figures in summary.items():
        cells = [_cell(figures.get("rows_per_second")), _times(figures, "accepted_ms"), _times(figures, "settled_ms")]
        table.add_row(name, *cells, _cell(figures.get("cores_busy")))
    return table


def _parts(title: str, summary: Mapping[str, Figures], group: str, extra: tuple[str, ...] = ()) -> Table:
    """A column for each part that any of them has."""
    measured = {name: figures for name, figures in summary.items() if figures.get(group)}
    parts = list(dict.fromkeys(part for figures in measured.values() for part, value in figures[group].items() if "median" in value))
    table = Table(
        "", *parts, *(name.replace("cpu_us_per_row_", "").replace("_us_per_row", "").replace("_", " ") for name in extra), title=title
    )
    for name, figures in measured.items():
        table.add_row(name, *(_cell(figures[group].get(part)) for part in parts), *(_cell(figures.get(one)) for one in extra))
    return table


def _times(figures: Figures, group: str) -> str:
    found = [median_of(figures, group, time) for time in TIMES]
    return " / ".join("–" if value is None else _short(value) for value in found) if any(value is not None for value in found) else ""


def _cell(value: Any) -> str:
    if not value:
        return ""
    middle, least, most = (value[name] for name in ("median", "min", "max"))
    return _short(middle) if least == most else f"{_short(middle)} ({_short(least)}–{_short(most)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
