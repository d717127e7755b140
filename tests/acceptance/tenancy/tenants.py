"""The workspaces and clients of the tenancy tests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx
import psycopg

from deploy.administration import NewWorkspace
from shared.access.keys import Scope
from tests.acceptance.conftest import administer, new_workspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, wait_for_job
from tests.support.waiting import wait_until

SECRET = "known-to-the-owner-only"  # pragma: allowlist secret
UNREACHABLE_URL = "https://hooks.invalid/pinflow"
"""A name that never resolves, so no delivery leaves this machine."""

CONNECT = """
    insert into access.connections (
        account_id, workspace_id, mode, pinterest_user_id, grant_type, scopes, token_version,
        token_expires_at, boards_due_at
    )
    values (
        %(account_id)s, %(workspace_id)s, 'simulated', '1', 'authorization_code', '{}', 1,
        now() + interval '30 days', now() + interval '1 day'
    )
"""


@dataclass(frozen=True)
class Tenants:
    """An owner with one resource of each kind, the owner's client, and clients that can't reach it.

    The owner has a published pin, a schedule, an import, a key, a webhook with a delivery, and an
    account that is connected to Pinterest.
    """

    owner: NewWorkspace
    other: NewWorkspace
    mine: httpx.Client
    """The owner's client."""
    theirs: httpx.Client
    """The client of another workspace that has resources too."""
    strangers: httpx.Client
    """The client of a workspace that has nothing to list."""
    limited: httpx.Client
    """A client of the owner's workspace with all scopes, limited to `empty_account`."""
    empty_account: str
    """An account of the owner without pins or schedules."""
    connected_account: str
    """An account of the owner that is connected to Pinterest."""
    job: dict[str, Any]
    webhook: str
    delivery: str

    @property
    def account(self) -> str:
        return str(self.owner.accounts[0].id)

    @property
    def board(self) -> str:
        """A board of `account`."""
        return self.owner.accounts[0].boards[0]

    @property
    def pin(self) -> str:
        return str(self.job["results"][0]["pin_id"])

    @property
    def schedule(self) -> str:
        return str(self.job["results"][1]["schedule_id"])

    @property
    def key(self) -> str:
        return str(self.mine.get("/v1/api-keys").json()[0]["id"])

    def state(self) -> dict[str, Any]:
        """Reads all resources of the owner that another workspace might change."""
        paths = [
            "/v1/pins",
            "/v1/schedules",
            "/v1/pinterest/accounts",
            "/v1/webhooks",
            "/v1/pins/imports",
        ]
        paths += [
            f"/v1/pinterest/boards?account_id={account.id}" for account in self.owner.accounts
        ]
        keys = [{**key, "last_used_at": None} for key in self.mine.get("/v1/api-keys").json()]
        return {"keys": keys, **{path: self.mine.get(path).json() for path in paths}}


def open_client(pinflow: Deployment, key: str | None) -> httpx.Client:
    headers = {"X-API-Key": key} if key else {}
    return httpx.Client(base_url=pinflow.base_url, headers=headers, timeout=40, trust_env=False)


@contextmanager
def tenancy(pinflow: Deployment) -> Iterator[Tenants]:
    """Creates the workspaces and their resources, and yields them."""
    owner, other, stranger = (
        new_workspace(pinflow.database_url, name) for name in ("Owner", "Other", "Stranger")
    )
    with ExitStack() as clients:
        mine, theirs, strangers = (
            clients.enter_context(open_client(pinflow, workspace.api_key))
            for workspace in (owner, other, stranger)
        )
        webhook = require_created(
            mine.post(
                "/v1/webhooks",
                json={"url": UNREACHABLE_URL, "secret": SECRET, "events": ["import.completed"]},
            )
        )
        published, scheduled = rows_for(owner, 2, prefix="owned")
        scheduled["run_at"] = (datetime.now(UTC) + timedelta(days=30)).isoformat()
        accepted = mine.post("/v1/pins/imports/json", json=[published, scheduled])
        job = wait_for_job(mine, accepted.json()["id"])
        assert (job["status"], job["created_rows"]) == ("completed", 2), pinflow.logs()

        empty = str(
            administer(
                pinflow.database_url, lambda access: access.add_account(owner.id, name="Empty")
            )
        )
        connected = _add_connected_account(pinflow.database_url, owner)
        limited_key = {"name": "limited", "scopes": list(Scope), "pinterest_account_ids": [empty]}
        limited = clients.enter_context(
            open_client(
                pinflow, require_created(mine.post("/v1/api-keys", json=limited_key))["api_key"]
            )
        )
        deliveries = f"/v1/webhooks/{webhook['id']}/deliveries"
        wait_until(lambda: mine.get(deliveries).json())
        delivery = mine.get(deliveries).json()[0]["id"]
        yield Tenants(
            owner,
            other,
            mine,
            theirs,
            strangers,
            limited,
            empty,
            connected,
            job,
            webhook["id"],
            delivery,
        )


def _add_connected_account(database_url: str, owner: NewWorkspace) -> str:
    """Adds an account with a connection, and returns its id. Nothing is ever sent for it."""
    account_id = administer(
        database_url, lambda access: access.add_account(owner.id, name="Connected")
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(CONNECT, {"account_id": account_id, "workspace_id": owner.id})
    return str(account_id)


def require_created(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == HTTPStatus.CREATED, answer.text
    return dict(answer.json())
