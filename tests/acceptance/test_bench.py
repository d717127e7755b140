"""Runs the benchmark so briefly that its figures mean nothing.

It must lose no row, and its report must be complete.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.services import SERVICES
from shared.contract.events import MAX_ROWS
from tests.tools.bench import plots, table
from tests.tools.bench.figures import Figures
from tests.tools.bench.installation import TEST_OPTIONS
from tests.tools.bench.limits import LIMITS
from tests.tools.bench.machine import describe_environment
from tests.tools.bench.report import LATEST_NAME, build_report, build_report_path, write
from tests.tools.bench.rounds import BenchRun, ExtraMeasurement
from tests.tools.bench.scenarios import DEFAULT_SCENARIOS
from tests.tools.bench.scenarios.bench import Lengths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # nearly every scenario runs once

SHORT = Lengths(seconds=1, warm_up_seconds=0, idle_imports=2, burst_imports=5, workspaces=2)
IMPORTS = {"idle", "sustained", "half-load", "mixed", "queries", "burst"}
PARTS = {"kafka", "postgres", "gateway", *SERVICES}


@pytest.fixture(scope="module")
def report() -> Figures:
    peer = ExtraMeasurement("a peer", lambda: {"rows_per_second": 1})
    run = BenchRun(SHORT, list(DEFAULT_SCENARIOS), list(LIMITS), [peer], TEST_OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        # A new interpreter for each would take longer than the measurement
        for name in ("broker", "database"):
            patch.setattr(
                f"tests.tools.bench.limits.{name}.run_in_processes",
                lambda work, given: [work(given)],
            )
        run.run_rounds(rounds=1)
    assert run.faults == []
    return build_report(run, describe_environment())


@pytest.fixture
def figures_by_name(report: Figures) -> dict[str, Figures]:
    """The figures of the only round, by scenario."""
    (figures_by_name,) = report["rounds"]
    return dict(figures_by_name)


def test_the_report_names_the_machine_versions_and_settings(report: Figures) -> None:
    environment, settings = report["environment"], report["settings"]
    assert len(environment["git"]["commit"]) == 40
    assert environment["machine"].keys() >= {"cores", "cpu", "memory_gib"}
    assert environment["versions"]["kafka"].startswith("4.")
    assert environment["versions"]["packages"]["aiokafka"]
    assert settings["postgres"]["fsync"] == "off"  # these servers run without fsync
    assert settings["services"]["publisher"]["row_consumers"] > 0
    assert (
        settings["replicas"],
        settings["topics"]["imports"],
        settings["topics"]["dead-letters"],
    ) == (1, 6, 3)
    assert report["lengths"]["seconds"] == SHORT.seconds


@pytest.mark.parametrize("name", sorted(IMPORTS | {"topic"}))
def test_a_scenario_has_every_figure_and_every_row_settled(
    figures_by_name: dict[str, Figures], name: str
) -> None:
    figures = figures_by_name[name]
    imports = figures["imports"]
    assert imports > 0
    assert figures["refused"] == 0
    assert figures["rows"] == imports * MAX_ROWS == sum(figures["outcomes"].values())
    assert figures["cpu_us_per_row"].keys() == PARTS
    assert figures["cpu_us_per_row_in_all"] > 0
    for kind in ("acknowledged_ms" if name == "topic" else "accepted_ms", "settled_ms"):
        assert figures[kind]["n"] == imports
        assert 0 < figures[kind]["p50"] <= figures[kind]["p99"] <= figures[kind]["max"]
    assert min(figures["bytes_per_row"][name] for name in ("kafka", "wal", "tables")) > 0
    assert figures["rss_mib"].keys() == {*PARTS, "generator"}


def test_the_mixed_load_has_rows_of_every_kind(figures_by_name: dict[str, Figures]) -> None:
    outcomes, imports = figures_by_name["mixed"]["outcomes"], figures_by_name["mixed"]["imports"]
    assert outcomes == {"created": imports * 400, "existing": imports * 50, "failed": imports * 50}


@pytest.mark.parametrize("name", ["queries", "pins"])
def test_queries_and_single_pins_are_answered(
    figures_by_name: dict[str, Figures], name: str
) -> None:
    figures = figures_by_name[name]
    answers = (
        figures["answered_ms"].values()
        if name == "queries"
        else [figures["answered_ms"], figures["answered_at_half_load_ms"]]
    )
    assert all(answer["n"] > 0 for answer in answers)
    assert figures["cpu_us_per_row"].keys() == PARTS


def test_the_floor_is_the_sum_of_the_limits(figures_by_name: dict[str, Figures]) -> None:
    parts = {
        "database": {"postgres", "client"},
        "broker": {"kafka", "client"},
        "computing": {"ingest", "publisher", "status"},
    }
    assert all(
        figures_by_name[name]["cpu_us_per_row"].keys() == names
        and figures_by_name[name]["rows"] > 0
        for name, names in parts.items()
    )
    total = sum(sum(figures_by_name[name]["cpu_us_per_row"].values()) for name in parts)
    assert figures_by_name["floor"]["cpu_us_per_row_in_all"] == pytest.approx(total, abs=0.1)
    assert figures_by_name["floor"]["pipeline_over_floor"] == pytest.approx(
        figures_by_name["sustained"]["cpu_us_per_row_in_all"] / total, abs=0.01
    )


def test_the_report_is_written_printed_and_plotted(
    report: Figures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = build_report_path(tmp_path)
    write(report, file)
    assert json.loads(file.read_text()) == json.loads((tmp_path / LATEST_NAME).read_text())
    written: dict[str, Any] = json.loads(file.read_text())
    assert written["summary"]["sustained"]["rows_per_second"].keys() == {"median", "min", "max"}
    assert written["summary"]["a peer"]["rows_per_second"]["median"] == 1
    table.print_tables(written, table.create_console())
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*DEFAULT_SCENARIOS, *LIMITS, "a peer", "floor"))
    drawn = plots.draw(written, tmp_path, file.stem)
    assert {plot.name.removeprefix(f"{file.stem}-") for plot in drawn} == {
        "latencies.svg",
        "cpu.svg",
    }
    assert all(plot.read_text().rstrip().endswith("</svg>") for plot in drawn)
