"""Fixtures that let property tests, which hypothesis calls synchronously, use async code."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import pytest
from pydantic import SecretStr

from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Provides a function that runs a coroutine. All tests of a module share one event loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def pool(database_url: str, run: Run) -> Iterator[Database]:
    """Provides connections to the module's own database, as its owner, on the loop of `run`."""
    database = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(database_url)), application="test-properties"
    )
    yield database
    run(database.dispose())
