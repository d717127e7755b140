"""What property tests work on: they are not asynchronous, as hypothesis calls them, but the product
is.
"""

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
    """Runs a coroutine to its end, all of a module's on one event loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def pool(database_url: str, run: Run) -> Iterator[Database]:
    """The owner's connections to the module's own database, on the loop of `run`."""
    database = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(database_url)), application="test-properties"
    )
    yield database
    run(database.dispose())
