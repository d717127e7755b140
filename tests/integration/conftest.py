"""Fixtures of integration tests: a database for each module, a workspace, settings."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from pydantic import SecretStr

from deploy.administration import OperatorRepository
from shared.access.keys import Scope, new_api_key
from shared.access.repository import AccessRepository
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.support.factories import BOARD


@dataclass(frozen=True)
class Workspace:
    id: UUID
    account_id: UUID
    api_key: str
    access: AccessRepository
    operator: OperatorRepository

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.api_key}

    async def add_account(self, *boards: str) -> UUID:
        account_id = await self.operator.add_account(self.id, name="Another Account")
        for board in boards:
            await self.operator.add_board(self.id, account_id, board, name=board)
        return account_id

    async def create_limited_key(self, *account_ids: UUID) -> str:
        """Creates a key with all scopes that is limited to these accounts."""
        key = new_api_key()
        await self.operator.create_key(
            self.id, key, name="limited", scopes=tuple(Scope), account_ids=account_ids
        )
        return key.plain


async def make_workspace(
    database: Database, *, scopes: tuple[Scope, ...] = tuple(Scope)
) -> Workspace:
    """Creates a workspace with a key, and with one account that has one board."""
    operator = OperatorRepository(database)
    workspace_id = await operator.create_workspace("Test")
    key = new_api_key()
    await operator.create_key(workspace_id, key, name="test", scopes=scopes)
    account_id = await operator.add_account(workspace_id, name="Test Account")
    await operator.add_board(workspace_id, account_id, BOARD, name="Lamps")
    return Workspace(workspace_id, account_id, key.plain, AccessRepository(database), operator)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(database_url)), application="tests"
    )
    yield database
    await database.dispose()


@pytest_asyncio.fixture(loop_scope="module")
async def workspace(database: Database) -> Workspace:
    return await make_workspace(database)


@pytest.fixture
def environment(kafka: str, topic_prefix: str, database_url: str) -> dict[str, Any]:
    """Settings of a service under test, as keyword arguments. Tests add their own."""
    return {
        "kafka_bootstrap_servers": kafka,
        "topic_prefix": topic_prefix,
        "database_url": SecretStr(database_url),
        "log_level": "WARNING",
    }
