"""The fetchers that read from the server of images and videos."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from services.publisher.delivery.media.fetching import MediaFetcher
from shared.http.address_rules import AddressRules
from shared.http.checked_connections import Resolver
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.media.videos import VideoDelivery, delivering_videos
from tests.support.media_server import VIDEO, MediaServer
from tests.support.simulator import Simulator

LOCAL = AddressRules.from_settings(variables="PINFLOW_MEDIA", allowed="127.0.0.0/8")
PUBLIC = AddressRules.from_settings(variables="PINFLOW_MEDIA", ports="80,443,1024-65535")


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver(2)
    yield resolver
    resolver.close()


@pytest_asyncio.fixture(loop_scope="module")
async def fetcher(resolver: Resolver) -> AsyncIterator[MediaFetcher]:
    """Fetches also from the loopback addresses, where the server is."""
    fetcher = MediaFetcher(LOCAL, resolver, max_connections=10)
    yield fetcher
    await fetcher.close()


@pytest_asyncio.fixture(loop_scope="module")
async def strict_fetcher(resolver: Resolver) -> AsyncIterator[MediaFetcher]:
    """Fetches from public addresses only, as by default."""
    fetcher = MediaFetcher(PUBLIC, resolver, max_connections=10)
    yield fetcher
    await fetcher.close()


@pytest_asyncio.fixture(loop_scope="module")
async def videos(
    database: Database, workspace: Workspace, simulator: Simulator
) -> AsyncIterator[VideoDelivery]:
    simulator.control("POST", "reset")
    async with delivering_videos(database, workspace, simulator) as videos:
        yield videos


@pytest.fixture
def url(server: MediaServer) -> str:
    return server.serve("/lamp.MP4", VIDEO)
