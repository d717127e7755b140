"""Tables and plots of figures that only long runs measure, from sample data."""

from pathlib import Path

import pytest

from tests.tools.bench import plots, table
from tests.tools.bench.figures import Figures, summarize


def build_sample_report() -> Figures:
    point = {
        "rows_per_second": 20_000,
        "cpu_us_per_row": {"kafka": 10.0, "postgres": 17.0},
        "cpu_us_per_row_in_all": 27.0,
    }
    results: dict[str, Figures] = {
        "growth": {
            "cpu_growth": 0.1,
            "points": [{"publications": rows, **point} for rows in (0, 1_000_000)],
        },
        "soak": {
            "rows_per_second": 10_000,
            "rss_series": [(seconds, {"ingest": 2**27, "kafka": 2**29}) for seconds in (0.0, 5.0)],
        },
    }
    return {
        "rounds": [results],
        "summary": {name: summarize([figures]) for name, figures in results.items()},
    }


def test_growth_and_memory_are_drawn(tmp_path: Path) -> None:
    drawn = plots.draw(build_sample_report(), tmp_path, "x")
    assert [file.name for file in drawn] == ["x-memory.svg", "x-growth.svg"]
    assert all(file.read_text().rstrip().endswith("</svg>") for file in drawn)


def test_the_growth_table_has_a_row_for_each_number_of_publications(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table.print_tables(build_sample_report(), table.create_console())
    output = capsys.readouterr().out
    assert "1,000,000" in output
    assert "growth: cpu growth 0.1" in output
    assert "Bytes" not in output


def build_peers_report() -> Figures:
    results: dict[str, Figures] = {
        "sustained": {"rows_per_second": 30_000, "cpu_us_per_row_in_all": 60.0},
        "fastapi": {
            "rows_per_second": 36_000,
            "cpu_us_per_row_in_all": 30.0,
            "cpu_us_per_row": {"web": 30.0},
            "exact": 1,
            "faults": [],
            "work": "counters only",
            "lacks": ["No events for consumers."],
        },
        "fastapi-equal": {
            "rows_per_second": 20_000,
            "cpu_us_per_row_in_all": 80.0,
            "cpu_us_per_row": {"web": 80.0},
            "exact": 0,
            "faults": ["1 pins were not announced"],
            "work": "equal work",
            "lacks": ["No admission control."],
        },
    }
    return {
        "rounds": [results],
        "summary": {name: summarize([figures]) for name, figures in results.items()},
    }


def test_a_peer_is_labelled_with_its_work_its_ratios_and_its_limits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table.print_tables(build_peers_report(), table.create_console())
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert ["Pinflow, sustained", "", "30,000", "60", "", "", ""] in cells
    assert ["fastapi", "counters only", "36,000", "30", "0.833", "2", "yes"] in cells
    assert ["fastapi-equal", "equal work", "20,000", "80", "1.5", "0.75", "NO"] in cells
    assert ["fastapi-equal", "equal work", "- No admission control."] in cells
    assert "fastapi-equal NOT EXACT: 1 pins were not announced" in lines


def test_peers_are_drawn_with_their_work(tmp_path: Path) -> None:
    drawn = {
        file.name: file.read_text() for file in plots.draw(build_peers_report(), tmp_path, "x")
    }
    assert drawn.keys() == {"x-cpu.svg", "x-peers.svg"}
    assert all("(equal work)" in text for text in drawn.values())
