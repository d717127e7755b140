"""The benchmark, so short that its figures say nothing: it runs, loses no row, and its report has all its parts."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.events import MAX_ROWS
from tests.bench import plots, table
from tests.bench.figures import Figures
from tests.bench.installation import LIKE_TESTS
from tests.bench.machine import environment
from tests.bench.report import LATEST, report_of, write
from tests.bench.rounds import Measurable, Run
from tests.bench.scenarios.bench import Lengths

SHORT = Lengths(seconds=1, warm_up_seconds=0.1, idle_imports=2, workspaces=2)
SCENARIOS = ("idle", "sustained", "half-load", "mixed")
PARTS = {"kafka", "postgres", "ingest", "publisher", "status", "gateway"}


@pytest.fixture(scope="module")
def report() -> Figures:
    peer = Measurable("a peer", lambda: {"rows_per_second": 1})
    run = Run(SHORT, SCENARIOS, [], [peer], LIKE_TESTS)
    run.go(rounds=1)
    return report_of(run, environment())


@pytest.fixture
def found(report: Figures) -> dict[str, Figures]:
    """The only round's figures."""
    (found,) = report["rounds"]
    return dict(found)


def test_it_tells_what_was_measured_on_what(report: Figures) -> None:
    environment, settings = report["environment"], report["settings"]
    assert len(environment["git"]["commit"]) == 40
    assert environment["machine"].keys() >= {"cores", "cpu", "memory_gib"}
    assert environment["versions"]["kafka"].startswith("4.")
    assert environment["versions"]["packages"]["aiokafka"]
    assert settings["postgres"]["fsync"] == "off"  # as these servers are
    assert settings["services"]["publisher"]["row_consumers"] > 0
    assert report["lengths"]["seconds"] == SHORT.seconds


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_every_figure_and_every_row_settled(found: dict[str, Figures], name: str) -> None:
    figures = found[name]
    imports = figures["imports"]
    assert imports > 0
    assert figures["refused"] == 0
    assert figures["rows"] == imports * MAX_ROWS == sum(figures["outcomes"].values())
    assert figures["cpu_us_per_row"].keys() == PARTS
    assert figures["cpu_us_per_row_in_all"] > 0
    for kind in ("accepted_ms", "settled_ms"):
        assert figures[kind]["n"] == imports
        assert 0 < figures[kind]["p50"] <= figures[kind]["p99"] <= figures[kind]["max"]
    assert min(figures["bytes_per_row"][name] for name in ("kafka", "wal", "tables")) > 0
    assert figures["rss_mb"].keys() == {*PARTS, "generator"}


def test_the_mixed_load_has_rows_of_every_kind(found: dict[str, Figures]) -> None:
    outcomes, imports = found["mixed"]["outcomes"], found["mixed"]["imports"]
    assert outcomes == {"created": imports * 400, "existing": imports * 50, "failed": imports * 50}


def test_it_is_written_shown_and_drawn(report: Figures, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(report, tmp_path)
    assert json.loads(file.read_text()) == json.loads((tmp_path / LATEST).read_text())
    written: dict[str, Any] = json.loads(file.read_text())
    assert written["summary"]["sustained"]["rows_per_second"].keys() == {"median", "min", "max"}
    assert written["summary"]["a peer"]["rows_per_second"]["median"] == 1
    table.show(written, table.console())
    assert all(name in capsys.readouterr().out for name in SCENARIOS[:1])
    drawn = plots.draw(written, tmp_path, file.stem)
    assert {one.name.removeprefix(f"{file.stem}-") for one in drawn} == {"latencies.svg", "cpu.svg"}
    assert all(one.read_text().rstrip().endswith("</svg>") for one in drawn)
