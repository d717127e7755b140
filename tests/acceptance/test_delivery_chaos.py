"""A short run of `make deliveries`: invariant 12 under faults, judged by the simulator's log."""

from pathlib import Path

import pytest
import uvloop

from tests.tools.chaos.deliveries.__main__ import run, workload_failed
from tests.tools.chaos.deliveries.arena import delivery_arena

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEED, PINS, ACCOUNTS = 7, 400, 4


@pytest.mark.parametrize("restores", [False, True])
def test_invariant_12_no_pin_is_made_twice_or_lost_under_faults(
    tmp_path: Path, *, restores: bool
) -> None:
    with delivery_arena(tmp_path, 1, ACCOUNTS) as running:
        verdict, facts = uvloop.run(run(running, PINS, SEED, restores=restores))
    assert verdict.is_clean, verdict.describe()
    assert not workload_failed(facts), facts
    assert verdict.published > PINS * 0.8
    assert facts["inflicted"]
