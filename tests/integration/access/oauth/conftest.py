"""Fixtures: a simulator, an access service that calls it, and a consent in progress."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.access.app import create_app
from tests.integration.conftest import Workspace
from tests.support.connections import make_access_settings
from tests.support.infrastructure import with_role
from tests.support.services import running_app
from tests.support.simulator import Simulator

CALLBACK = "/v1/pinterest/oauth/callback"
START = "/v1/pinterest/oauth/start"
TOKEN = "the-installations-token"


@pytest.fixture(autouse=True)
def without_faults(simulator: Simulator) -> None:
    simulator.control("POST", "faults", {"kind": "none"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(simulator: Simulator, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_access_settings(
        simulator, with_role(database_url, "pinflow_access"), internal_token=TOKEN
    )
    async with running_app(create_app(settings)) as client:
        yield client


@dataclass(frozen=True)
class Consent:
    """A user has decided at Pinterest, but the browser has not called Pinflow yet."""

    attempt_id: str
    parameters: dict[str, str]


class Pinflow:
    """The API of the access service, as a workspace's client and a user's browser use it."""

    def __init__(self, http: httpx.AsyncClient, simulator: Simulator, workspace: Workspace) -> None:
        self.http = http
        self.simulator = simulator
        self.workspace = workspace
        self.headers = workspace.headers

    async def start(self, **query: Any) -> httpx.Response:
        return await self.http.get(START, params=query, headers=self.headers)

    async def consent(
        self, user: str = "rosa", *, allow: bool = True, scope: str | None = None, **query: Any
    ) -> Consent:
        started = (await self.start(**query)).raise_for_status().json()
        url = httpx.URL(started["authorization_url"])
        if scope is not None:
            url = url.copy_set_param("scope", scope)
        target = httpx.URL(self.simulator.consent(str(url), user, allow=allow))
        return Consent(started["attempt_id"], dict(target.params))

    async def call_back(self, consent: Consent, **headers: str) -> httpx.Response:
        return await self.http.get(CALLBACK, params=consent.parameters, headers=headers)

    async def connect(self, user: str = "rosa", **query: Any) -> str:
        answer = await self.call_back(await self.consent(user, **query))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["account_id"])

    async def list_accounts(self) -> dict[str, dict[str, Any]]:
        answer = await self.http.get("/v1/pinterest/accounts", headers=self.headers)
        return {account["id"]: account for account in answer.raise_for_status().json()}

    async def get_attempt(self, attempt_id: str) -> httpx.Response:
        return await self.http.get(
            f"/v1/pinterest/oauth/attempts/{attempt_id}", headers=self.headers
        )

    async def refresh(self, account_id: object) -> httpx.Response:
        return await self.http.post(
            f"/v1/pinterest/accounts/{account_id}/refresh", headers=self.headers
        )

    def count_requests(self, path: str) -> int:
        """Counts what the simulator has received."""
        requests = self.simulator.control("GET", "requests")
        return sum(request["path"] == path for request in requests)


@pytest.fixture
def pinflow(http: httpx.AsyncClient, simulator: Simulator, workspace: Workspace) -> Pinflow:
    return Pinflow(http, simulator, workspace)


def read_error(answer: httpx.Response) -> tuple[int, str]:
    """Returns status and code."""
    return answer.status_code, answer.json()["detail"]["code"]
