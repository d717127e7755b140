"""The report: every round's figures, their medians and spreads, and what they were measured on. As JSON, for people and for plots."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

from deploy.local.layout import CHECKOUT
from tests.bench.figures import Figures, summarised
from tests.bench.rounds import Run

RESULTS = CHECKOUT / ".pinflow" / "bench"
LATEST = "latest.json"


def report_of(run: Run, environment: Figures) -> Figures:
    names = {name: None for found in run.rounds for name in found}
    summary = {name: summarised([found[name] for found in run.rounds if name in found]) for name in names}
    return {
        "environment": environment,
        "settings": run.settings,
        "lengths": dataclasses.asdict(run.lengths),
        "summary": summary,
        "rounds": run.rounds,
    }


def write(report: Figures, folder: Path = RESULTS) -> Path:
    """Beside the earlier ones, and as the latest. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1) + "\n"
    file = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(text, encoding="utf-8")
    (folder / LATEST).write_text(text, encoding="utf-8")
    return file
