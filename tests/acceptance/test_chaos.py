"""A short chaos run. `make chaos` has longer ones; tests/unit/chaos tests the checker itself."""

from pathlib import Path

import pytest
import uvloop

from tests.tools.chaos.__main__ import run
from tests.tools.chaos.arena import arena
from tests.tools.chaos.history import History, RequestOutcome
from tests.tools.chaos.report import MAX_SHOWN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 4
SECONDS = 20
FAULTS = 2
DECK = (
    "kill ingest",
    "kill publisher",
    "kill status",
    "kill postgres",
    "drop database connections",
    "cut kafka off",
    "freeze publisher",
)


def test_nothing_is_lost_or_doubled_during_faults(tmp_path: Path) -> None:
    history = History(SEED)
    with arena(tmp_path, brokers=1) as running:
        violations = uvloop.run(run(running, history, SECONDS, DECK, at_least=FAULTS))
        assert not violations, "\n".join(str(violation) for violation in violations[:MAX_SHOWN])
    assert (
        sum(submission.outcome is RequestOutcome.ACCEPTED for submission in history.submissions)
        > 10
    )
    assert all(campaign.steps for campaign in history.campaigns)
    assert any(undo.answers for campaign in history.campaigns for undo in campaign.undos())
