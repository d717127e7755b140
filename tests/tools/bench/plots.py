"""Draws the report as SVG: latency curves, CPU per row, peers, memory over time, and growth."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.tools.bench.figures import Figures, find_median, get_last_round
from tests.tools.bench.limits import LIMITS

SATURATING_SCENARIOS = {"sustained", "mixed", "topic", "backlog"}
"""Scenarios whose latencies are mostly waiting, by design."""
LATENCY_LABELS = {"accepted_ms": "until accepted (202)", "settled_ms": "until settled"}
MAX_BAR_MEDIANS = 3
"""Longest bar drawn in full, as a multiple of the median bar.

Two peers need thirty times as much as the others, whose bars would be invisible beside them.
"""
TICK_PERCENTS = (50, 90, 99, 99.9)


def draw(report: Figures, folder: Path, stem: str) -> list[Path]:
    """Draws one file for each plot that the report has figures for, and returns the paths."""
    # The import takes half a second, and only plots need it
    from matplotlib import pyplot as plt  # noqa: PLC0415

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
    """Plots latency against rarity, as hdrhistogram does: each further 9 has the same width."""
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
        title="Latency, from the time an import was due",
    )
    axes.set_xticks(
        [1 / (1 - tick / 100) for tick in TICK_PERCENTS], [f"{tick:g} %" for tick in TICK_PERCENTS]
    )
    return drawn and _add_legend(axes)


def _plot_cpu(axes: Any, report: Figures) -> bool:
    """Plots CPU per row by process, with the total at the end of each bar. Cuts very long bars.

    Excludes idle imports, whose rows carry the cost of the gaps, single pins, and the separate
    limits, whose sum is the floor.
    """
    excluded = {"idle", "pins", *LIMITS}
    summary = {
        _label(report, name): figures["cpu_us_per_row"]
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
    axes.set(xlabel="µs per row", title="CPU, by process")
    return bool(summary) and _add_legend(axes)


def _label(report: Figures, name: str) -> str:
    """Returns a bar's label: the name, and for a peer its work."""
    work = get_last_round(report).get(name, {}).get("work")
    return f"{name}\n({work})" if work else name


def _plot_peers(axes: Any, report: Figures) -> bool:
    """Plots the rows/s of Pinflow and of each peer that takes whole imports."""
    last_round = get_last_round(report)
    rates = {
        _label(report, name): find_median(figures, "rows_per_second") or 0.0
        for name, figures in report["summary"].items()
        if name == "sustained" or last_round.get(name, {}).get("work")
    }
    bars = axes.barh(list(rates), list(rates.values()))
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="rows/s", title="Rows a second, Pinflow and peers")
    return any(last_round.get(name, {}).get("work") for name in report["summary"])


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
    # Logarithmic, because Postgres needs fifty times the memory of a service
    axes.set(xlabel="s", ylabel="MiB", yscale="log", title="Resident memory")
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
        ylabel="µs per row",
        title="CPU as the store grows",
        ylim=(0, None),
    )
    return _add_legend(axes)


PLOTS = {
    "latencies": _plot_latencies,
    "cpu": _plot_cpu,
    "peers": _plot_peers,
    "memory": _plot_memory,
    "growth": _plot_growth,
}


def _add_legend(axes: Any) -> bool:
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return True
