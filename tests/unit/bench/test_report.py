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
