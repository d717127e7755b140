"""The reader of `outcomes` reports a Kafka that it can't connect to as unavailable."""

import pytest
from aiokafka import TopicPartition

from services.publisher.rows.outcome_history_reader import OutcomeReader
from shared.contract.errors import BrokerUnavailable
from shared.runtime.settings import ServiceSettings
from tests.support.ports import PROXIES

PARTITION = TopicPartition("outcomes", 0)


@pytest.fixture
def reader() -> OutcomeReader:
    """A reader of a Kafka at a port at which nothing listens."""
    settings = ServiceSettings(kafka_bootstrap_servers=f"127.0.0.1:{PROXIES}")
    return OutcomeReader(settings, PARTITION.topic)


async def test_bounds_without_a_connection_are_unavailable(reader: OutcomeReader) -> None:
    with pytest.raises(BrokerUnavailable):
        await reader.bounds()


async def test_a_read_that_has_to_connect_again_is_unavailable(reader: OutcomeReader) -> None:
    with pytest.raises(BrokerUnavailable):
        await anext(reader.read({PARTITION: 0}, {PARTITION: 1}))
