"""Calls of the access service take from the publisher's budgets, and need no publisher to work."""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpcore
import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import text

from services.access.boards.connected_repository import ConnectedBoardRepository
from services.access.boards.sync import BoardSync
from services.access.connections.budgets import BudgetUsedUp, RequestBudget
from services.access.connections.errors import build_api_error
from services.access.connections.service import ConnectionService
from shared.http.client import create_http_pool
from shared.http.internal import InternalClient
from shared.postgres.database import Database
from tests.integration.access.connected_processes import (
    BOARDS,
    Process,
    execute,
    make_settings,
)
from tests.integration.conftest import Workspace
from tests.integration.publisher.conftest import TOKEN, serving
from tests.support.infrastructure import with_role
from tests.support.simulator import Simulator

GRANTS = "/internal/pinterest/grants"


class AsgiPool(httpcore.AsyncConnectionPool):
    """Sends an internal client's requests to an application of the test's process."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        super().__init__()
        self._client = http
        self.requests: list[httpx.Request] = []

    async def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        *,
        headers: list[tuple[bytes, bytes]],
        content: bytes,
    ) -> httpcore.Response:
        answer = await self._client.request(method, url, headers=headers, content=content)
        self.requests.append(answer.request)
        copied = httpcore.Response(
            answer.status_code, headers=answer.headers.raw, content=answer.content
        )
        copied.read()
        return copied


@dataclass
class Access:
    """An access service's connections, with the budgets of a publisher."""

    service: ConnectionService
    simulator: Simulator
    account_id: UUID

    async def list_boards(self) -> list[dict[str, Any]]:
        return await self.service.list_all(self.account_id, *BOARDS)

    async def create_board(self) -> Any:
        return await self.service.call(
            self.account_id, "boards/create", "POST", "/boards", document={"name": uuid4().hex}
        )

    def count_requests(self, operation: str) -> int:
        requests = self.simulator.control("GET", "requests")
        return sum(request["operation"] == operation for request in requests)


@pytest_asyncio.fixture(loop_scope="module")
async def account(process: Process, simulator: Simulator, workspace: Workspace) -> UUID:
    user = f"user-{uuid4().hex[:8]}"
    simulator.create_account(username=user, boards=3)
    return await process.connect(simulator, workspace.id, user)


@pytest_asyncio.fixture(loop_scope="module")
async def publisher(database_url: str, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with database.transaction() as connection:
        await connection.execute(text("delete from publisher.pinterest_budgets"))
    limits: dict[str, Any] = {
        "delivery_account_writes_per_minute": 1,
        "delivery_account_reads_per_minute": 12,
    }
    async with serving(with_role(database_url, "pinflow_publisher"), **limits) as client:
        yield client


@pytest.fixture
def pool(publisher: httpx.AsyncClient) -> AsgiPool:
    return AsgiPool(publisher)


@pytest.fixture
def access(process: Process, simulator: Simulator, account: UUID, pool: AsgiPool) -> Access:
    return build_access(process, simulator, account, pool, "http://pinflow.test")


def build_access(
    process: Process,
    simulator: Simulator,
    account_id: UUID,
    pool: httpcore.AsyncConnectionPool,
    url: str,
    token: str = TOKEN,
) -> Access:
    client = InternalClient("publisher", pool, url, SecretStr(token))
    budget = RequestBudget(client, "simulated")
    settings = make_settings(simulator)
    service = ConnectionService(process.repository, settings, process.link, budget)
    return Access(service, simulator, account_id)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The URL of a server that accepts connections, and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_a_call_beyond_the_budget_is_not_sent(access: Access) -> None:
    before = access.count_requests("boards/create")
    await access.create_board()
    with pytest.raises(BudgetUsedUp) as refused:
        await access.create_board()
    assert access.count_requests("boards/create") == before + 1
    error = build_api_error(refused.value)
    assert (error.status, error.code) == (429, "rate_limited")
    assert 50 < int(error.headers["Retry-After"]) <= 60
    assert error.message.startswith("Pinflow sends no more requests of this account to Pinterest")


async def test_reads_do_not_use_up_what_writes_need(access: Access) -> None:
    assert len(await access.list_boards()) == 3
    assert len(await access.list_boards()) == 3
    with pytest.raises(BudgetUsedUp):
        await access.list_boards()
    await access.create_board()


async def test_a_day_of_the_app_that_is_used_up_stops_the_writes_of_every_account(
    access: Access, database: Database
) -> None:
    insert = text("""
        insert into publisher.pinterest_budgets (mode, account_id, category, level, blocked_until)
        values ('simulated', :app, 'org_write', 1, now() + interval '1 hour')
    """)
    async with database.transaction() as connection:
        await connection.execute(insert, {"app": UUID(int=0)})
    with pytest.raises(BudgetUsedUp) as refused:
        await access.create_board()
    assert 3500 < (refused.value.retry_after_seconds or 0) <= 3600


async def test_a_sync_that_has_to_wait_comes_later_and_is_no_fault_of_the_account(
    access: Access, simulator: Simulator, database: Database
) -> None:
    while True:
        try:
            await access.list_boards()
        except BudgetUsedUp:
            break
    sync = BoardSync(ConnectedBoardRepository(database), access.service, make_settings(simulator))
    before = access.count_requests("boards/list")
    assert not await sync.sync(access.account_id)
    assert access.count_requests("boards/list") == before
    connection = await read_connection(database, access.account_id)
    assert (connection["boards_message"], connection["health_code"]) == (None, None)
    assert connection["is_due"] is False
    await execute(
        database,
        "delete from publisher.pinterest_budgets where account_id = :id",
        access.account_id,
    )  # as time does
    assert await sync.sync(access.account_id)


async def read_connection(database: Database, account_id: UUID) -> Mapping[str, Any]:
    query = text("""
        select boards_message, health_code, boards_due_at <= now() as is_due
        from access.connections where account_id = :id
    """)
    row = await database.fetch_first(query.bindparams(id=account_id))
    assert row is not None
    return row


async def test_calls_go_through_while_the_publisher_is_away(
    process: Process, simulator: Simulator, account: UUID, silent_server: str
) -> None:
    pool = create_http_pool()
    for url in ("http://127.0.0.1:1", silent_server):
        access = build_access(process, simulator, account, pool, url)
        assert len(await access.list_boards()) == 3
    await pool.aclose()


@pytest.mark.parametrize("token", ["", "another"])
async def test_calls_go_through_without_the_installations_token(
    process: Process, simulator: Simulator, account: UUID, pool: AsgiPool, token: str
) -> None:
    access = build_access(process, simulator, account, pool, "http://pinflow.test", token)
    for _ in range(3):
        assert len(await access.list_boards()) == 3
    assert len(pool.requests) == (3 if token else 0)


async def test_the_route_needs_the_installations_token_and_a_known_category(
    publisher: httpx.AsyncClient,
) -> None:
    request = {"mode": "sandbox", "account_id": str(uuid4()), "category": "org_write"}
    assert (await publisher.post(GRANTS, json=request)).status_code == 403
    headers = {"Authorization": f"Bearer {TOKEN}"}
    granted = await publisher.post(GRANTS, json=request, headers=headers)
    assert granted.json() == {"wait_seconds": 0.0}
    later = await publisher.post(GRANTS, json=request, headers=headers)
    assert 50 < later.json()["wait_seconds"] <= 60
    other_mode = await publisher.post(
        GRANTS, json={**request, "mode": "simulated"}, headers=headers
    )
    assert other_mode.json() == {"wait_seconds": 0.0}
    unknown = await publisher.post(GRANTS, json={**request, "category": "other"}, headers=headers)
    assert unknown.status_code == 422
