"""The log that counts outcomes exposes each counter before the first attempt."""

from prometheus_client import REGISTRY

from services.publisher.delivery.log.counted import CountedDeliveryLog
from services.publisher.delivery.model import AttemptOutcome
from tests.support.delivery.process import OpenLog


def test_every_outcome_is_counted_from_the_start() -> None:
    CountedDeliveryLog(OpenLog())
    for outcome in AttemptOutcome:
        labels = {"outcome": str(outcome)}
        value = REGISTRY.get_sample_value("pinflow_delivery_attempts_total", labels)
        assert value is not None, outcome
