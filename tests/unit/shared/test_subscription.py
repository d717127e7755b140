"""A subscription with contradicting guarantees can't be created."""

from typing import Any

import pytest

from shared.contract.topics import TopicName
from shared.kafka.consumer import BatchConsumer
from shared.kafka.subscription import Acknowledgement, FetchSettings, Subscription
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, build_subscription
from tests.support.fakes import MemorySender

VALID: dict[str, Any] = {
    "name": "unit",
    "topics": (TopicName.OUTCOMES,),
    "isolation": "read_uncommitted",
    "offset_reset": "earliest",
    "acknowledgement": Acknowledgement.OFFSET_AFTER_WORK,
    "max_records": 10,
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"topics": (TopicName.IMPORT_REQUESTS,)}, "needs isolation='read_committed'"),
        ({"offset_reset": "none"}, "offset_reset='none' if"),
        (
            {"acknowledgement": Acknowledgement.POSITION_WITH_WORK},
            "offset_reset='none' if",
        ),
    ],
)
def test_contradicting_guarantees_are_refused(changed: dict[str, Any], message: str) -> None:
    Subscription(**VALID)
    with pytest.raises(ValueError, match=message):
        Subscription(**VALID | changed)


def test_a_consumer_with_positions_in_postgres_needs_a_position_store() -> None:
    with pytest.raises(ValueError, match="position_with_work"):
        BatchConsumer(
            build_subscription(has_positions=True), ServiceSettings(), Handler(), MemorySender()
        )


def test_partition_bytes_default_to_the_topics_largest_record() -> None:
    both = (TopicName.OUTCOMES, TopicName.IMPORT_REQUESTS)
    largest = build_subscription("unit", TopicName.IMPORT_REQUESTS).partition_bytes
    assert build_subscription("unit", *both).partition_bytes == largest
    fetch = FetchSettings(partition_bytes=7)
    assert Subscription(**VALID | {"fetch": fetch}).partition_bytes == 7
