"""Prints the report as tables: medians, and the spread if there were several rounds."""

from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.tools.bench.figures import Figures, find_median, get_last_round
from tests.tools.bench.limits import FLOOR, LIMITS

WIDTH = 150
"""Width of the output if it is not a terminal."""
PERCENTILES = ("p50", "p90", "p99", "max")
CPU, TOTAL_CPU, RATE = "cpu_us_per_row", "cpu_us_per_row_in_all", "rows_per_second"
PIPELINE, STAGE = "sustained", "publisher-stage"
"""Pinflow's own measurements with which peers are compared."""
TOTAL_COLUMNS = {"cpu_us_per_row_in_all": "total", "generator_us_per_row": "generator"}
SCENARIO_FIGURES = (
    "accepted_rows_per_second",
    "drained_rows_per_second",
    "publisher_rss_mib",
    "cpu_growth",
    "unavailable",
)
"""Figures that only one scenario has."""
Summary = Mapping[str, Figures]


def create_console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def print_tables(report: Figures, output: Console) -> None:
    """Prints every table that has rows."""
    summary: Summary = report["summary"]
    pipeline = {name: figures for name, figures in summary.items() if name not in {*LIMITS, FLOOR}}
    limits = {name: summary[name] for name in LIMITS if name in summary}
    tables = [
        _build_speed_table(summary),
        _build_parts_table("CPU, µs per row", pipeline, CPU, TOTAL_COLUMNS),
        _build_parts_table("Bytes per row", pipeline, "bytes_per_row"),
        _build_parts_table("Resident memory at the end, MiB", pipeline, "rss_mib"),
        _build_parts_table(
            "Memory growth after the first quarter, MiB",
            pipeline,
            "rss_growth_mib_after_a_quarter",
        ),
        _build_requests_table(pipeline),
        _build_growth_table(get_last_round(report).get("growth", {})),
        _build_peers_table(summary, get_last_round(report)),
        _build_guarantees_table(get_last_round(report)),
        _build_parts_table("Limits alone: CPU, µs per row", limits, CPU, TOTAL_COLUMNS),
    ]
    for table in tables:
        if table.row_count:
            output.print(table)
    for name, figures in pipeline.items():
        for figure in SCENARIO_FIGURES:
            if figure in figures:
                output.print(f"{name}: {figure.replace('_', ' ')} {_format_cell(figures[figure])}")
    for name, figures in get_last_round(report).items():
        for fault in figures.get("faults", ()):
            output.print(f"{name} NOT EXACT: {fault}")
    if floor := summary.get(FLOOR):
        floor_us, ratio = _format_cells(floor, ("cpu_us_per_row_in_all", "pipeline_over_floor"))
        output.print(
            f"floor, the sum of the limits: {floor_us} µs per row; "
            f"the pipeline takes {ratio or '?'} times as much"
        )


def _build_speed_table(summary: Summary) -> Table:
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
            times = [
                _format_percentiles(figures.get(group, {}))
                for group in ("accepted_ms", "settled_ms")
            ]
            table.add_row(
                name,
                _format_cell(figures["rows_per_second"]),
                *times,
                _format_cell(figures.get("cores_busy")),
            )
    return table


def _build_parts_table(
    title: str, summary: Summary, group: str, total_columns: Mapping[str, str] | None = None
) -> Table:
    """Builds a table with a column for each part that any scenario has, and for the totals."""
    total_columns = total_columns or {}
    measured = {name: figures for name, figures in summary.items() if figures.get(group)}
    parts = list(
        dict.fromkeys(
            part
            for figures in measured.values()
            for part, value in figures[group].items()
            if "median" in value
        )
    )
    table = Table("", *parts, *total_columns.values(), title=title)
    for name, figures in measured.items():
        table.add_row(
            name, *_format_cells(figures[group], parts), *_format_cells(figures, total_columns)
        )
    return table


def _build_requests_table(summary: Summary) -> Table:
    """Builds the table of requests other than imports."""
    table = Table("", "answered p50 / p90 / p99 / max, ms", title="Single pins and queries")
    for name, figures in summary.items():
        for group in ("answered_ms", "answered_at_half_load_ms"):
            measured = figures.get(group, {})
            kinds = (
                {f"{name}: {kind}": times for kind, times in measured.items()}
                if "p50" not in measured
                else {f"{name}: {group[9:-3]}": measured}
            )
            for title, times in kinds.items():
                table.add_row(title.strip(": "), _format_percentiles(times))
    return table


def _build_growth_table(growth: Figures) -> Table:
    points = growth.get("points", [])
    parts = list(points[0][CPU]) if points else []
    table = Table(
        "publications", "rows/s", *parts, "total", title="CPU, µs per row, as the store grows"
    )
    for point in points:
        values = [
            point["rows_per_second"],
            *(point[CPU][part] for part in parts),
            point["cpu_us_per_row_in_all"],
        ]
        table.add_row(f"{point['publications']:,}", *(_format_number(value) for value in values))
    return table


def _build_peers_table(summary: Summary, last_round: Mapping[str, Figures]) -> Table:
    """Builds the table of peers, with their work and Pinflow's ratio to each.

    Pinflow's figure is the pipeline's sustained rate, or for Kafka Connect the publisher's stage.
    """
    table = Table(
        "",
        "work",
        "rows/s",
        "CPU, µs per row",
        "rows/s, Pinflow ÷ peer",
        "CPU per row, Pinflow ÷ peer",
        "exact",
        title="Peers",
    )
    peers = {name: figures for name, figures in summary.items() if "exact" in figures}
    references = [name for name in (PIPELINE, STAGE) if peers and name in summary]
    for name in references:
        table.add_row(f"Pinflow, {name}", "", *_format_cells(summary[name], (RATE, TOTAL_CPU)))
    for name, figures in peers.items():
        if name in references:
            continue
        pinflow = summary.get(STAGE if name == "kafka-connect" else PIPELINE, {})
        table.add_row(
            name,
            last_round.get(name, {}).get("work", ""),
            *_format_cells(figures, (RATE, TOTAL_CPU)),
            *(
                _format_ratio(find_median(pinflow, figure), find_median(figures, figure))
                for figure in (RATE, TOTAL_CPU)
            ),
            "yes" if figures["exact"]["min"] else "NO",
        )
    return table


def _build_guarantees_table(last_round: Mapping[str, Figures]) -> Table:
    table = Table("", "work", "what it does not guarantee or do", title="Limits of the peers")
    for name, figures in last_round.items():
        if sentences := figures.get("lacks"):
            table.add_row(
                name, figures.get("work", ""), "\n".join(f"- {sentence}" for sentence in sentences)
            )
            table.add_section()
    return table


def _format_ratio(pinflow: float | None, peer: float | None) -> str:
    return _format_number(pinflow / peer) if pinflow and peer else ""


def _format_percentiles(times: Figures) -> str:
    medians = [find_median(times, time) for time in PERCENTILES]
    return " / ".join(_format_number(value) for value in medians if value is not None)


def _format_cells(figures: Figures, names: Collection[str]) -> list[str]:
    return [_format_cell(figures.get(name)) for name in names]


def _format_cell(value: Any) -> str:
    if not value:
        return ""
    median, minimum, maximum = (value[name] for name in ("median", "min", "max"))
    return (
        _format_number(median)
        if minimum == maximum
        else f"{_format_number(median)} ({_format_number(minimum)}–{_format_number(maximum)})"
    )


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
