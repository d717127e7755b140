"""Connects accounts to a simulator of Pinterest through the API of the access service."""

from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import text

from services.access.config import AccessSettings
from shared.postgres.database import Database
from shared.runtime.settings import PREFIX
from tests.support.simulator import Simulator


def name_settings(simulator: Simulator) -> dict[str, str]:
    """Returns the simulator's variables as names of settings, in lower case without a prefix."""
    return {
        name.removeprefix(PREFIX).lower(): value for name, value in simulator.settings().items()
    }


def make_access_settings(simulator: Simulator, database_url: str, **changes: Any) -> AccessSettings:
    """Returns settings of an access service that calls the simulator."""
    return AccessSettings(
        **{
            "database_url": database_url,
            "pinterest_redirect_url": "http://127.0.0.1/v1/pinterest/oauth/callback",
            **name_settings(simulator),
            **changes,
        }
    )


async def connect_account(
    http: httpx.AsyncClient,
    simulator: Simulator,
    headers: dict[str, str],
    *,
    user: str,
    account_id: UUID | None = None,
) -> UUID:
    """Connects an account, or creates one, as a user does in a browser. Returns its id."""
    query = {} if account_id is None else {"account_id": str(account_id)}
    started = await http.get("/v1/pinterest/oauth/start", params=query, headers=headers)
    started.raise_for_status()
    target = httpx.URL(simulator.consent(started.json()["authorization_url"], user))
    finished = await http.get(target.raw_path.decode())
    finished.raise_for_status()
    return UUID(finished.json()["account_id"])


CONNECT = text("""
    insert into access.connections (
        account_id, workspace_id, mode, pinterest_user_id, grant_type, scopes, token_version,
        token_expires_at
    )
    values (
        :account_id, :workspace_id, 'simulated', cast(:account_id as text), 'authorization_code',
        array['pins:write'], 1, now() + interval '30 days'
    )
""")


async def record_connection(database: Database, workspace_id: UUID, account_id: UUID) -> None:
    """Records that an account was connected, for tests that need no access service."""
    async with database.transaction() as connection:
        await connection.execute(CONNECT, {"workspace_id": workspace_id, "account_id": account_id})
