"""The fixture of the tests that steer imports."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from services.status.app import create_app
from services.status.config import StatusSettings
from shared.postgres.database import Database
from tests.integration.status.steering import TOKEN, Peer, Steering
from tests.support.receivers import Receiver, receiving
from tests.support.services import running_app

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def publisher_server() -> Iterator[Receiver]:
    with receiving(Peer()) as server:
        yield server


@pytest.fixture(scope="module")
def ingest_server() -> Iterator[Receiver]:
    with receiving(Peer()) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def steering(
    kafka: str,
    topic_prefix: str,
    database_url: str,
    database: Database,
    publisher_server: Receiver,
    ingest_server: Receiver,
) -> AsyncIterator[Steering]:
    settings = StatusSettings(
        # A replica that is down, then one that answers
        publisher_url=f"{NOBODY},http://127.0.0.1:{publisher_server.port}",
        ingest_url=f"http://127.0.0.1:{ingest_server.port}",
        webhooks_url=NOBODY,
        access_url=NOBODY,
        kafka_bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        database_url=SecretStr(database_url),
        internal_token=SecretStr(TOKEN),
    )
    async with running_app(create_app(settings)) as http:
        yield Steering(http, database, Peer(), Peer())


@pytest.fixture(autouse=True)
def _new_peers(request: pytest.FixtureRequest) -> None:
    """Gives each test servers without answers."""
    if "steering" in request.fixturenames:
        steering: Steering = request.getfixturevalue("steering")
        for peer, name in (
            (steering.publisher, "publisher_server"),
            (steering.ingest, "ingest_server"),
        ):
            peer.answers.clear()
            peer.received.clear()
            request.getfixturevalue(name).answer = peer
