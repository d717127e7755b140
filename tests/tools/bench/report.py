"""Builds and writes the report: figures of every round, medians, spreads and the environment.

It is JSON, for people and for plots.
"""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

from deploy.local.layout import CHECKOUT
from tests.tools.bench.figures import Figures, summarize
from tests.tools.bench.rounds import BenchRun

RESULTS = CHECKOUT / ".pinflow" / "bench"
LATEST_NAME = "latest.json"


def build_report(run: BenchRun, environment: Figures) -> Figures:
    names = {name: None for results in run.rounds for name in results}
    summary = {
        name: summarize([results[name] for results in run.rounds if name in results])
        for name in names
    }
    return {
        "environment": environment,
        "settings": run.settings,
        "faults": run.faults,
        "lengths": dataclasses.asdict(run.lengths),
        "summary": summary,
        "rounds": run.rounds,
    }


def build_report_path(folder: Path = RESULTS) -> Path:
    return folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"


def write(report: Figures, file: Path) -> None:
    """Writes the report to `file`, beside the earlier ones, and to latest.json."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1) + "\n"
    for path in (file, file.with_name(LATEST_NAME)):
        path.write_text(text, encoding="utf-8")
