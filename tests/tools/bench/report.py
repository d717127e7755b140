"""The report: every round's figures, their medians and spreads, and what they were measured on.

As JSON, for people and for plots.
"""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

from deploy.local.layout import CHECKOUT
from tests.tools.bench.figures import Figures, summarised
from tests.tools.bench.rounds import Run

RESULTS = CHECKOUT / ".pinflow" / "bench"
LATEST = "latest.json"


def report_of(run: Run, environment: Figures) -> Figures:
    names = {name: None for found in run.rounds for name in found}
    summary = {
        name: summarised([found[name] for found in run.rounds if name in found]) for name in names
    }
    return {
        "environment": environment,
        "settings": run.settings,
        "faults": run.faults,
        "lengths": dataclasses.asdict(run.lengths),
        "summary": summary,
        "rounds": run.rounds,
    }


def new_file(folder: Path = RESULTS) -> Path:
    return folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"


def write(report: Figures, file: Path) -> None:
    """There, beside the earlier ones, and as the latest."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1) + "\n"
    for one in (file, file.with_name(LATEST)):
        one.write_text(text, encoding="utf-8")
