"""Runs the benchmark of the lists briefly on few pins. Every query must be answered."""

import pytest

from tests.tools.bench.installation import TEST_OPTIONS
from tests.tools.bench.rounds import BenchRun
from tests.tools.bench.scenarios.bench import Lengths

pytestmark = pytest.mark.slow

SHORT = Lengths(seconds=2, warm_up_seconds=0, catalogue_pins=20_000)


def test_every_list_is_queried_during_imports() -> None:
    run = BenchRun(SHORT, ["catalogue"], [], server_options=TEST_OPTIONS)
    run.run_rounds(rounds=1)
    figures = run.rounds[0]["catalogue"]
    answered = figures["answered_ms"]
    assert figures["publications"] == SHORT.catalogue_pins
    assert figures["imports"] > 0
    assert len(answered) > 50
    assert all(times["n"] > 0 and times["p50"] > 0 for times in answered.values())
