"""The whole of Pinflow behind its gateway, and two workspaces to use it from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from pinbridge_sdk import AsyncPinbridgeClient, PinbridgeClient
from pydantic import SecretStr

from deploy.administration import NewWorkspace, OperatorRepository, create_workspace
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.support.deployment import Deployment, deployed
from tests.support.sdk import Awaited

T = TypeVar("T")


def administer(database_url: str, work: Callable[[OperatorRepository], Awaitable[T]]) -> T:
    """Do `work` as an operator does it, in SQL."""

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


@pytest.fixture(scope="module")
def pinflow(
    tmp_path_factory: pytest.TempPathFactory, kafka: str, topic_prefix: str, database_url: str
) -> Iterator[Deployment]:
    directory: Path = tmp_path_factory.mktemp("pinflow")
    with deployed(
        directory, kafka=kafka, database_url=database_url, topic_prefix=topic_prefix
    ) as deployment:
        yield deployment


@pytest.fixture
def workspace(pinflow: Deployment, database_url: str) -> NewWorkspace:
    return new_workspace(database_url)


@pytest.fixture
def client(pinflow: Deployment, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    """Speaks to the gateway as `workspace`."""
    with httpx.Client(
        base_url=pinflow.base_url,
        headers={"X-API-Key": workspace.api_key},
        timeout=40,
        trust_env=False,
    ) as client:
        yield client


@pytest.fixture(params=[PinbridgeClient, AsyncPinbridgeClient], ids=["synchronous", "asynchronous"])
async def connect(
    request: pytest.FixtureRequest, pinflow: Deployment
) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """PinBridge's clients, unmodified, one after the other: made with a key.

    Typed Any: they add their resources at run time.
    """
    async with AsyncExitStack() as clients:

        async def client(api_key: str | None = None, **options: Any) -> Any:
            made = request.param(**{"base_url": pinflow.base_url, "api_key": api_key, **options})
            if isinstance(made, AsyncPinbridgeClient):
                return await clients.enter_async_context(made)
            return Awaited(clients.enter_context(made))

        yield client


@pytest.fixture
async def sdk(connect: Callable[..., Awaitable[Any]], workspace: NewWorkspace) -> Any:
    """The workspace's own."""
    return await connect(workspace.api_key)
