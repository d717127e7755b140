"""Settings that ingest refuses at its start."""

import pytest
from pydantic import ValidationError

from services.ingest.config import IngestSettings


def test_the_acceptance_deadline_must_not_be_below_the_broker_deadline() -> None:
    with pytest.raises(
        ValidationError,
        match=r"ACCEPTANCE_DEADLINE_SECONDS \(2\) must be at least PINFLOW_BROKER_DEADLINE.* \(3\)",
    ):
        IngestSettings(broker_deadline_seconds=3, acceptance_deadline_seconds=2)
    IngestSettings(broker_deadline_seconds=3, acceptance_deadline_seconds=3)
