"""A reader of a topic reports a Kafka that it can't connect to as unavailable."""

import pytest
from aiokafka import TopicPartition

from shared.contract.errors import BrokerUnavailable
from shared.kafka.topic_reader import TopicReader
from shared.runtime.settings import ServiceSettings
from tests.support.ports import PROXIES

PARTITION = TopicPartition("outcomes", 0)


@pytest.fixture
def reader() -> TopicReader:
    """A reader of a Kafka at a port at which nothing listens."""
    settings = ServiceSettings(kafka_bootstrap_servers=f"127.0.0.1:{PROXIES}")
    return TopicReader(settings, PARTITION.topic, client_id="pinflow-test")


async def test_bounds_without_a_connection_are_unavailable(reader: TopicReader) -> None:
    with pytest.raises(BrokerUnavailable):
        await reader.bounds()


async def test_a_read_that_has_to_connect_again_is_unavailable(reader: TopicReader) -> None:
    with pytest.raises(BrokerUnavailable):
        await anext(reader.read({PARTITION: 0}, {PARTITION: 1}))
