"""Processes of the access service without HTTP, for tests of connections and their tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import text

from services.access.config import AccessSettings
from services.access.connections.link import PinterestApi, PinterestLink
from services.access.connections.model import Connection, NewConnection, PinterestUser
from services.access.connections.repository import ConnectionRepository
from services.access.connections.service import ConnectionService
from services.access.connections.sweep import ConnectionSweep
from services.access.oauth.repository import AttemptRepository
from shared.pinterest.app_client import PinterestAppClient
from shared.pinterest.reading import read_grant
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.support.connections import name_settings
from tests.support.infrastructure import with_role
from tests.support.simulator import Simulator

BOARDS = ("boards/list", "/boards")


def make_settings(simulator: Simulator, **changes: Any) -> AccessSettings:
    return AccessSettings(**{"pinterest_timeout_seconds": 5, **name_settings(simulator), **changes})


@dataclass(frozen=True)
class Process:
    """The parts of one process of the access service that connections need."""

    service: ConnectionService
    sweep: ConnectionSweep
    repository: ConnectionRepository
    link: PinterestLink

    async def find(self, account_id: UUID) -> Connection:
        return await self.service.require(account_id)

    async def refresh(self, account_id: UUID) -> int:
        """Refreshes the tokens that are stored now."""
        connection = await self.find(account_id)
        return await self.service.refresh(account_id, connection.token_version)

    async def call(self, account_id: UUID) -> list[dict[str, Any]]:
        return await self.service.list_all(account_id, *BOARDS)

    async def connect(
        self,
        simulator: Simulator,
        workspace_id: UUID,
        user: str = "rosa",
        account_id: UUID | None = None,
        **token_options: str,
    ) -> UUID:
        """Connects a user of the simulator as the OAuth callback does."""
        grant = read_grant(simulator.get_token(user, **token_options))
        token = grant.access_token.get_secret_value()
        answer = simulator.call("GET", "/user_account", token).json()
        pinterest_user = PinterestUser(answer["id"], answer["username"])
        return await self.service.connect(
            NewConnection(workspace_id, account_id, grant, pinterest_user, "authorization_code")
        )


@asynccontextmanager
async def running_process(
    database_url: str, settings: AccessSettings, api: PinterestApi | None = None
) -> AsyncIterator[Process]:
    """Builds a process with the access service's database role. `api`: instead of the client."""
    database = Database.from_settings(
        DatabaseSettings(
            database_url=SecretStr(with_role(database_url, "pinflow_access")), database_pool_size=5
        ),
        application="tests-access",
    )
    repository = ConnectionRepository(database, settings.pinterest_mode)
    link = PinterestLink.build(settings, repository, api or PinterestAppClient(settings))
    service = ConnectionService(repository, settings, link)
    try:
        sweep = ConnectionSweep(repository, AttemptRepository(database), link)
        yield Process(service, sweep, repository, link)
    finally:
        await service.close()
        await database.dispose()


async def make_due(database: Database, account_id: UUID) -> None:
    """Makes the next refresh of an account due, as time does."""
    await execute(
        database, "update access.tokens set refresh_at = now() where account_id = :id", account_id
    )


async def make_expired(database: Database, account_id: UUID) -> None:
    """Makes Pinflow see the access token of an account as expired."""
    await execute(
        database,
        "update access.connections set token_expires_at = now() where account_id = :id",
        account_id,
    )


async def execute(database: Database, statement: str, account_id: UUID) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement), {"id": account_id})
