"""Deploys Pinflow behind its gateway, and creates workspaces and clients for tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from pinbridge_sdk import AsyncPinbridgeClient, PinbridgeClient
from pydantic import SecretStr

from deploy.administration import NewWorkspace, OperatorRepository, create_workspace
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.support.connections import name_settings
from tests.support.deployment import Deployment, deployed
from tests.support.infrastructure import Servers, fresh_database, fresh_topics
from tests.support.sdk import AsyncAdapter
from tests.support.simulator import Simulator

T = TypeVar("T")
INTERNAL_TOKEN = "token-of-the-tests"
"""The internal token of `connected`."""


def administer(database_url: str, work: Callable[[OperatorRepository], Awaitable[T]]) -> T:
    """Runs `work` with an operator's access to the database, and returns its result."""

    async def connected() -> T:
        database = Database.from_settings(
            DatabaseSettings(database_url=SecretStr(database_url)), application="tests"
        )
        try:
            return await work(OperatorRepository(database))
        finally:
            await database.dispose()

    return asyncio.run(connected())


def new_workspace(database_url: str, name: str = "Acceptance") -> NewWorkspace:
    return administer(
        database_url, lambda operator: create_workspace(operator, name, accounts=2, boards=3)
    )


@pytest.fixture(scope="package")
def pinflow(tmp_path_factory: pytest.TempPathFactory, stack: Servers) -> Iterator[Deployment]:
    """The deployment that all modules share. A module that breaks more than one service for a
    moment starts its own.
    """
    with deployed_afresh(tmp_path_factory.mktemp("pinflow"), stack) as deployment:
        yield deployment


@pytest.fixture(scope="package")
def connected(
    tmp_path_factory: pytest.TempPathFactory, stack: Servers, session_simulator: Simulator
) -> Iterator[Deployment]:
    """The deployment with a simulator of Pinterest that modules share, as they share `pinflow`.

    It calls receivers of webhooks on this machine and tries them again fast. It refuses wrong keys
    only after very many.
    """
    variables = {
        **name_settings(session_simulator),
        "internal_token": INTERNAL_TOKEN,
        "access_failed_tries": "10000",
        "webhook_allow_private_addresses": "true",
        "webhook_first_retry_seconds": "0.2",
        # A receiver that answers later, on a busy machine, gets its event twice. But a delivery of
        # a killed process waits for this time and 5 s
        "webhook_timeout_seconds": "5",
    }
    with deployed_afresh(tmp_path_factory.mktemp("connected"), stack, **variables) as deployment:
        yield deployment


@contextmanager
def deployed_afresh(directory: Path, stack: Servers, **variables: str) -> Iterator[Deployment]:
    """Deploys Pinflow on new topics and a new database. `variables` are further settings."""
    kafka = stack.kafka_bootstrap_servers
    with (
        fresh_topics(kafka) as prefix,
        fresh_database(stack.database_url) as url,
        deployed(
            directory, kafka=kafka, database_url=url, topic_prefix=prefix, **variables
        ) as deployment,
    ):
        yield deployment


@pytest.fixture
def workspace(pinflow: Deployment) -> NewWorkspace:
    return new_workspace(pinflow.database_url)


@pytest.fixture
def client(pinflow: Deployment, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    """A client of the gateway with the key of `workspace`."""
    with create_client(pinflow, workspace) as client:
        yield client


def create_client(pinflow: Deployment, workspace: NewWorkspace) -> httpx.Client:
    """Creates a client of the gateway with the workspace's key."""
    return httpx.Client(
        base_url=pinflow.base_url,
        headers={"X-API-Key": workspace.api_key},
        timeout=40,
        trust_env=False,
    )


@pytest.fixture(params=[PinbridgeClient, AsyncPinbridgeClient], ids=["synchronous", "asynchronous"])
async def connect(
    request: pytest.FixtureRequest, pinflow: Deployment
) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Yields a function that creates PinBridge's unmodified client with a key.

    The client is synchronous or asynchronous. It is typed Any, because it adds its resources at run
    time.
    """
    async with AsyncExitStack() as clients:

        async def client(api_key: str | None = None, **options: Any) -> Any:
            created = request.param(**{"base_url": pinflow.base_url, "api_key": api_key, **options})
            if isinstance(created, AsyncPinbridgeClient):
                return await clients.enter_async_context(created)
            return AsyncAdapter(clients.enter_context(created))

        yield client


@pytest.fixture
async def sdk(connect: Callable[..., Awaitable[Any]], workspace: NewWorkspace) -> Any:
    """PinBridge's client with the key of `workspace`."""
    return await connect(workspace.api_key)
