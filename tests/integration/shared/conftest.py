"""Settings with a module's own topics, and a producer."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from shared.kafka.producer import RecordProducer
from shared.runtime.settings import ServiceSettings


@pytest.fixture
def settings(environment: dict[str, Any]) -> ServiceSettings:
    """Settings for the module's topics. A test gets its own group by its consumer's name."""
    return ServiceSettings(**environment)


@pytest_asyncio.fixture(loop_scope="module")
async def producer(settings: ServiceSettings) -> AsyncIterator[RecordProducer]:
    producer = RecordProducer(settings, client_id="test")
    await producer.start()
    yield producer
    await producer.stop()
