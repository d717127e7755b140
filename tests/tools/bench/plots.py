"""The report as plots, SVG: latencies as percentile curves, CPU a row by process, memory over time,
growth.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.tools.bench.figures import Figures, find_median, get_last_round
from tests.tools.bench.limits import LIMITS

SATURATING_SCENARIOS = {"sustained", "mixed", "topic", "backlog"}
"""There most of the time is waiting, by design."""
LATENCY_LABELS = {"accepted_ms": "to the 202", "settled_ms": "to the end"}
MAX_BAR_MEDIANS = 3
"""Medians: two peers take thirty times what the others do, of whom nothing could be seen beside a
whole bar of theirs.
"""
TICK_PERCENTS = (50, 90, 99, 99.9)


def draw(report: Figures, folder: Path, stem: str) -> list[Path]:
    """One file for each plot that the report has figures for. Returns them."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 - half a second, and only here

    plt.switch_backend("svg")
    plt.rcParams.update(
        {"svg.hashsalt": "pinflow", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3}
    )
    drawn: list[Path] = []
    for name, plot in PLOTS.items():
        figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
        try:
            if plot(axes, report):
                file = folder / f"{stem}-{name}.svg"
                figure.savefig(file, metadata={"Date": None})
                drawn.append(file)
        finally:
            plt.close(figure)
    return drawn


def _plot_latencies(axes: Any, report: Figures) -> bool:
    """Over how rare it is, as hdrhistogram plots it: each 9 has the same room."""
    drawn = False
    axes.set_prop_cycle(color=_get_colors())
    for name, figures in get_last_round(report).items():
        for group, title in LATENCY_LABELS.items():
            points = [
                (1 / (1 - min(percent, 99.95) / 100), ms)
                for percent, ms in figures.get(group, {}).get("curve", ())
            ]
            if points and name not in SATURATING_SCENARIOS:
                axes.plot(
                    *zip(*points, strict=True),
                    label=f"{name}, {title}",
                    linestyle="--" if group == "accepted_ms" else "-",
                )
                drawn = True
    axes.set(
        xscale="log",
        yscale="log",
        ylabel="ms",
        xlabel="percentile",
        title="Latency, from when an import was due",
    )
    axes.set_xticks(
        [1 / (1 - tick / 100) for tick in TICK_PERCENTS], [f"{tick:g} %" for tick in TICK_PERCENTS]
    )
    return drawn and _add_legend(axes)


def _plot_cpu(axes: Any, report: Figures) -> bool:
    """Not of idle imports, whose rows carry the gaps' cost, nor of single pins, nor of the limits
    one by one: the floor is their sum.

    With its sum at the end of each bar; bars that are far longer than the others are cut.
    """
    excluded = {"idle", "pins", *LIMITS}
    summary = {
        name: figures["cpu_us_per_row"]
        for name, figures in report["summary"].items()
        if figures.get("cpu_us_per_row") and name not in excluded
    }
    parts = dict.fromkeys(part for parts in summary.values() for part in parts)
    left = [0.0] * len(summary)
    axes.set_prop_cycle(color=_get_colors())
    for part in parts:
        widths = [find_median(cpu, part) or 0.0 for cpu in summary.values()]
        axes.barh(list(summary), widths, left=left, label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    max_width = MAX_BAR_MEDIANS * median(left) if left else 0
    for row, total in enumerate(left):
        axes.text(min(total, max_width), row, f" {total:.0f}", va="center", fontsize="small")
    axes.set_xlim(0, 1.1 * min(max_width, max(left, default=0)) or None)
    axes.invert_yaxis()
    axes.set(xlabel="µs a row", title="CPU, by process")
    return bool(summary) and _add_legend(axes)


def _get_colors() -> Any:
    from matplotlib import colormaps  # noqa: PLC0415

    return colormaps["tab20"](range(20))


def _plot_memory(axes: Any, report: Figures) -> bool:
    drawn = False
    for name, figures in get_last_round(report).items():
        series = figures.get("rss_series")
        if not series:
            continue
        for part in series[0][1]:
            axes.plot(
                [seconds for seconds, _ in series],
                [sizes.get(part, 0) / 2**20 for _, sizes in series],
                label=f"{name}: {part}",
            )
            drawn = True
    axes.set(
        xlabel="s", ylabel="MB", yscale="log", title="Resident memory"
    )  # Postgres has fifty times what a service has
    return drawn and _add_legend(axes)


def _plot_growth(axes: Any, report: Figures) -> bool:
    points = get_last_round(report).get("growth", {}).get("points", ())
    if not points:
        return False
    for part in points[0]["cpu_us_per_row"]:
        millions: Sequence[float] = [point["publications"] / 1e6 for point in points]
        axes.plot(
            millions, [point["cpu_us_per_row"][part] for point in points], marker="o", label=part
        )
    axes.set(
        xlabel="million publications in the store",
        ylabel="µs a row",
        title="CPU as the store grows",
        ylim=(0, None),
    )
    return _add_legend(axes)


PLOTS = {
    "latencies": _plot_latencies,
    "cpu": _plot_cpu,
    "memory": _plot_memory,
    "growth": _plot_growth,
}


def _add_legend(axes: Any) -> bool:
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return True
