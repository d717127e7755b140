"""What ingest refuses to start with."""

import pytest
from pydantic import ValidationError

from services.ingest.config import IngestSettings


def test_an_answer_can_not_have_less_time_than_sending() -> None:
    with pytest.raises(
        ValidationError,
        match=r"acceptance_deadline_seconds \(2\) must not be below broker_deadline_seconds \(3\)",
    ):
        IngestSettings(broker_deadline_seconds=3, acceptance_deadline_seconds=2)
    IngestSettings(broker_deadline_seconds=3, acceptance_deadline_seconds=3)
