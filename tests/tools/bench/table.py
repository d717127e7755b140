"""The report as tables in a terminal: medians, and the spread where there were several rounds."""

from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.tools.bench.figures import Figures, last_round, median_of
from tests.tools.bench.limits import FLOOR, LIMITS

WIDTH = 150
"""Where it is not a terminal that says how wide it is."""
TIMES = ("p50", "p90", "p99", "max")
CPU = "cpu_us_per_row"
SUMS = {"cpu_us_per_row_in_all": "in all", "generator_us_per_row": "generator"}
OWN = (
    "accepted_rows_per_second",
    "drained_rows_per_second",
    "publisher_rss_mb",
    "cpu_growth",
    "unavailable",
)
"""Figures that only one scenario has."""
Summary = Mapping[str, Figures]


def console() -> Console:
    own = Console()
    return own if own.is_terminal else Console(width=WIDTH)


def show(report: Figures, to: Console) -> None:
    """Only tables that have rows."""
    summary: Summary = report["summary"]
    pipeline = {name: figures for name, figures in summary.items() if name not in {*LIMITS, FLOOR}}
    limits = {name: summary[name] for name in LIMITS if name in summary}
    tables = [
        _speed(summary),
        _parts("CPU, µs a row", pipeline, CPU, SUMS),
        _parts("Bytes a row", pipeline, "bytes_per_row"),
        _parts("Resident memory at the end, MB", pipeline, "rss_mb"),
        _parts(
            "Memory grown after a quarter of the time, MB",
            pipeline,
            "rss_growth_mb_after_a_quarter",
        ),
        _answers(pipeline),
        _growth(last_round(report).get("growth", {})),
        _beside(summary),
        _parts("The limits alone: CPU, µs a row", limits, CPU, SUMS),
    ]
    for table in tables:
        if table.row_count:
            to.print(table)
    for name, figures in pipeline.items():
        for own in OWN:
            if own in figures:
                to.print(f"{name}: {own.replace('_', ' ')} {_cell(figures[own])}")
    for name, figures in last_round(report).items():
        for told, sentences in (
            ("NOT EXACT", figures.get("faults", ())),
            ("does not give", figures.get("lacks", ())),
        ):
            to.print(
                *(f"{name} {told}: {sentence}" for sentence in sentences),
                sep="\n",
                end="\n" if sentences else "",
            )
    if floor := summary.get(FLOOR):
        floor_us, ratio = _cells(floor, ("cpu_us_per_row_in_all", "pipeline_over_floor"))
        to.print(
            f"floor, the sum of the limits: {floor_us} µs a row; the pipeline takes {ratio or '?'} "
            "times that"
        )


def _speed(summary: Summary) -> Table:
    table = Table(
        "",
        "rows/s",
        "202 p50 / p90 / p99 / max, ms",
        "due → settled, ms",
        "cores busy",
        title="Speed and latency",
    )
    for name, figures in summary.items():
        if "rows_per_second" in figures:
            times = [_times(figures.get(group, {})) for group in ("accepted_ms", "settled_ms")]
            table.add_row(
                name, _cell(figures["rows_per_second"]), *times, _cell(figures.get("cores_busy"))
            )
    return table


def _parts(
    title: str, summary: Summary, group: str, sums: Mapping[str, str] | None = None
) -> Table:
    """A column for each part that any of them has, and for their sums."""
    sums = sums or {}
    measured = {name: figures for name, figures in summary.items() if figures.get(group)}
    parts = list(
        dict.fromkeys(
            part
            for figures in measured.values()
            for part, value in figures[group].items()
            if "median" in value
        )
    )
    table = Table("", *parts, *sums.values(), title=title)
    for name, figures in measured.items():
        table.add_row(name, *_cells(figures[group], parts), *_cells(figures, sums))
    return table


def _answers(summary: Summary) -> Table:
    """Of requests that are no imports."""
    table = Table("", "answered p50 / p90 / p99 / max, ms", title="Single pins and questions")
    for name, figures in summary.items():
        for group in ("answered_ms", "answered_at_half_load_ms"):
            found = figures.get(group, {})
            kinds = (
                {f"{name}: {kind}": times for kind, times in found.items()}
                if "p50" not in found
                else {f"{name}: {group[9:-3]}": found}
            )
            for title, times in kinds.items():
                table.add_row(title.strip(": "), _times(times))
    return table


def _growth(growth: Figures) -> Table:
    points = growth.get("points", [])
    parts = list(points[0][CPU]) if points else []
    table = Table(
        "publications", "rows/s", *parts, "in all", title="CPU, µs a row, as the store grows"
    )
    for point in points:
        values = [
            point["rows_per_second"],
            *(point[CPU][part] for part in parts),
            point["cpu_us_per_row_in_all"],
        ]
        table.add_row(f"{point['publications']:,}", *(_short(value) for value in values))
    return table


def _beside(summary: Summary) -> Table:
    """Each peer, and what it is held to: the whole pipeline's sustained rate, or the publisher's
    stage alone.
    """
    table = Table(
        "", "Pinflow's rows/s over its", "Pinflow's CPU a row over its", "exact", title="Peers"
    )
    for name, figures in summary.items():
        ours = summary.get("publisher-stage" if name == "kafka-connect" else "sustained", {})
        rates = [median_of(one, "rows_per_second") for one in (ours, figures)]
        costs = [median_of(one, "cpu_us_per_row_in_all") for one in (ours, figures)]
        if "exact" in figures and name != "publisher-stage":
            table.add_row(
                name, _ratio(*rates), _ratio(*costs), "yes" if figures["exact"]["min"] else "NO"
            )
    return table


def _ratio(ours: float | None, theirs: float | None) -> str:
    return _short(ours / theirs) if ours and theirs else ""


def _times(times: Figures) -> str:
    found = [median_of(times, time) for time in TIMES]
    return " / ".join(_short(value) for value in found if value is not None)


def _cells(figures: Figures, names: Collection[str]) -> list[str]:
    return [_cell(figures.get(name)) for name in names]


def _cell(value: Any) -> str:
    if not value:
        return ""
    middle, least, most = (value[name] for name in ("median", "min", "max"))
    return _short(middle) if least == most else f"{_short(middle)} ({_short(least)}–{_short(most)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
