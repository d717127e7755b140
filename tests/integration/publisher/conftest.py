"""The publisher's HTTP API without Kafka and background tasks.

A due schedule stays due until a test calls `publish_due`.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from services.publisher.app import create_app
from services.publisher.config import PublisherSettings
from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePinRepository
from shared.access.model import Principal
from shared.contract.schedule_ids import derive_pin_id
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.support.factories import submitted_row
from tests.support.media_server import MediaServer, serving_media

TOKEN = "the-installations-token"
COMPARISON = {"payload_matches", "differing_fields"}
"""The fields that only the answer of POST /v1/pins has."""


def in_future(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later or {"days": 1})).isoformat()


class FixedAuthenticator:
    """Authenticates every request as the same principal."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def authenticate(self, _plain_key: str | None, _address: str = "") -> Principal:
        return self._principal


async def accept_every_database(_made_at: float) -> None:
    """Accepts every connection: no consumer runs that would read outcomes."""


@asynccontextmanager
async def serving(
    database_url: str, principal: Principal | None = None, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    settings = {"internal_token": TOKEN, **settings}
    app = create_app(PublisherSettings(database_url=database_url, **settings))
    pins = app.state.dependencies.pins._pins
    imports = app.state.import_dependencies.commands._imports
    for repository in (pins, imports):
        repository._lost_pins._require_current_database = accept_every_database
    if principal is not None:
        app.state.authenticator = FixedAuthenticator(principal)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://pinflow.test") as client:
        yield client
    await pins._database.dispose()


class Client:
    """The API client of one workspace, with helpers that change its data in the database."""

    def __init__(self, http: httpx.AsyncClient, workspace: Workspace, database: Database) -> None:
        self._http = http
        self._database = database
        self.workspace = workspace

    async def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> httpx.Response:
        sent = {"json": body} if body is not None else {}
        encoded = httpx.Headers({**self.workspace.headers, **headers}, encoding="utf-8")
        return await self._http.request(method, path, headers=encoded, **sent)

    async def get(self, path: str) -> httpx.Response:
        return await self.send("GET", path)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.send("POST", path, body, **headers)

    async def patch(self, path: str, body: Any) -> httpx.Response:
        return await self.send("PATCH", path, body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.send("DELETE", path)

    async def call_internally(self, path: str, body: Any, token: str = TOKEN) -> httpx.Response:
        """Calls an internal route, as another service does."""
        headers = {"Authorization": f"Bearer {token}"}
        return await self._http.post(f"/internal/{path}", json=body, headers=headers)

    def pin(self, **fields: Any) -> dict[str, Any]:
        """Builds the body of a pin."""
        return submitted_row(**{"account_id": str(self.workspace.account_id), **fields})

    def schedule(self, **fields: Any) -> dict[str, Any]:
        """Builds the body of a schedule. Like the SDK's, it has no key."""
        return self.pin(**{"run_at": in_future(), "idempotency_key": None, **fields})

    async def publish_pin(self, **fields: Any) -> dict[str, Any]:
        """Publishes a pin. Returns it as a GET would, without the comparison with its key's pin."""
        pin = require_created(await self.post("/v1/pins", self.pin(**fields)))
        return {name: value for name, value in pin.items() if name not in COMPARISON}

    async def create_schedule(self, **fields: Any) -> dict[str, Any]:
        return require_created(await self.post("/v1/schedules", self.schedule(**fields)))

    async def create_due_schedule(self, **fields: Any) -> dict[str, Any]:
        """Creates a schedule that is due, and not published yet."""
        schedule = await self.create_schedule(**fields)
        await self.make_due(schedule)
        return schedule

    async def make_due(self, schedule: dict[str, Any]) -> None:
        await self.execute(
            "update publisher.pins set run_at = now() - interval '1 second' where pin_id = :id",
            id=find_pin_id(schedule),
        )

    async def create_failed_schedule(self, **fields: Any) -> dict[str, Any]:
        """Creates a schedule that fails, because its board is removed before it is due."""
        board = f"gone-{uuid4()}"
        await self.workspace.operator.add_board(
            self.workspace.id, self.workspace.account_id, board, name="Going"
        )
        schedule = await self.create_due_schedule(board_id=board, **fields)
        await self.execute("delete from access.boards where board_id = :id", id=board)
        await self.publish_due()
        return schedule

    async def publish_due(self) -> int:
        return await Scheduler(
            DuePinRepository(self._database), self.workspace.access, 100
        ).publish_due()

    async def events(self, pin_id: UUID | str) -> list[str]:
        """Reads the types of the pin's events in the outbox, in order."""
        query = text(
            "select event_type from publisher.outbox where event_id like :id order by id"
        ).bindparams(id=f"{pin_id}:%")
        return [row["event_type"].split(".")[2] for row in await self._database.fetch_all(query)]

    async def execute(self, statement: str, **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(text(statement), values)


def require_created(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def find_pin_id(schedule: dict[str, Any]) -> UUID:
    return derive_pin_id(UUID(schedule["id"]))


def read_error(answer: httpx.Response) -> tuple[int, str]:
    """Returns the HTTP status and the error code."""
    return answer.status_code, answer.json()["detail"]["code"]


def read_bulk_results(answer: httpx.Response) -> list[tuple[str, str | None]]:
    """Returns the status and the error code of each item of a bulk command."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    statuses = [result["status"] for result in body["results"]]
    assert [body[f"{status}_count"] for status in ("succeeded", "skipped", "failed")] == [
        statuses.count(status) for status in ("succeeded", "skipped", "failed")
    ]
    return [(result["status"], result["error_code"]) for result in body["results"]]


@pytest.fixture
def server() -> Iterator[MediaServer]:
    """A server of images and videos."""
    with serving_media() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database_url) as client:
        yield client


@pytest.fixture
def client(http: httpx.AsyncClient, workspace: Workspace, database: Database) -> Client:
    return Client(http, workspace, database)
