"""Accounts that are connected to a simulator of Pinterest, and an access service that uses it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from services.access.app import create_app
from services.access.boards import sync as sync_module
from services.access.boards.connected_repository import ConnectedBoardRepository
from services.access.boards.sync import BoardSync
from services.access.config import AccessSettings
from services.access.connections.link import PinterestLink
from services.access.connections.repository import ConnectionRepository
from services.access.connections.service import ConnectionService
from shared.pinterest.app_client import PinterestAppClient
from shared.postgres.database import Database
from shared.postgres.row import Row
from tests.integration.conftest import Workspace
from tests.support.connections import connect_account, make_access_settings
from tests.support.infrastructure import with_role
from tests.support.services import running_app
from tests.support.simulator import Simulator

MAX_BOARDS = 20
FIRST_BOARDS = 3


class ConnectedAccount:
    """An account, and its user at Pinterest, who also changes boards with another app."""

    def __init__(
        self,
        account_id: UUID,
        headers: dict[str, str],
        simulator: Simulator,
        user: dict[str, Any],
        database: Database,
    ) -> None:
        self.id = account_id
        self.headers = headers
        self.simulator = simulator
        self.user_id: str = user["id"]
        self.first_boards = len(user["boards"])
        self._database = database
        self._token = simulator.get_token(self.user_id)["access_token"]
        self._forgotten = 0

    def set_faults(self, kind: str, **options: Any) -> None:
        """Injects a fault into requests of this account only."""
        self.simulator.set_faults(kind, account_id=self.user_id, **options)

    def clear_faults(self) -> None:
        self.simulator.control("POST", "faults", {"kind": "none"})

    def requests(self) -> list[dict[str, Any]]:
        """Lists the requests of this account since `forget_requests`."""
        return self._all_requests()[self._forgotten :]

    def forget_requests(self) -> None:
        self._forgotten = len(self._all_requests())

    def board_ids(self) -> list[str]:
        """Lists the boards at Pinterest, in order of creation."""
        users = self.simulator.list_accounts()
        return next(list(user["boards"]) for user in users if user["id"] == self.user_id)

    def get_at_pinterest(self, board_id: str) -> dict[str, Any]:
        return dict(self._call("GET", f"/boards/{board_id}").json())

    def create_at_pinterest(self, **fields: Any) -> str:
        return str(self._call("POST", "/boards", json=fields).json()["id"])

    def change_at_pinterest(self, board_id: str, **fields: Any) -> None:
        self._call("PATCH", f"/boards/{board_id}", json=fields)

    def delete_at_pinterest(self, board_id: str) -> None:
        self._call("DELETE", f"/boards/{board_id}")

    async def read_stored(self) -> dict[str, Row]:
        """Returns the boards in the store, by their ids."""
        query = text("select * from access.boards where account_id = :id")
        rows = await self._database.fetch_all(query.bindparams(id=self.id))
        return {row["board_id"]: row for row in rows}

    async def read_connection(self) -> Row:
        """Returns the connection. `due_in` are the seconds until its boards are read again."""
        query = text("""
            select *, extract(epoch from boards_due_at - now())::float as due_in
            from access.connections where account_id = :id
        """)
        row = await self._database.fetch_first(query.bindparams(id=self.id))
        assert row is not None
        return row

    async def change_connection(self, assignments: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                text(f"update access.connections set {assignments} where account_id = :id"),
                {"id": self.id},
            )

    def _all_requests(self) -> list[dict[str, Any]]:
        requests = self.simulator.control("GET", "requests")
        return [request for request in requests if request["account_id"] == self.user_id]

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self.simulator.call(method, path, self._token, **options)
        answer.raise_for_status()
        return answer


Connect: TypeAlias = Callable[..., Awaitable[ConnectedAccount]]
MakeSync: TypeAlias = Callable[..., BoardSync]


@pytest.fixture(autouse=True)
def _without_faults(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.control("POST", "faults", {"kind": "none"})


@pytest.fixture(scope="module")
def settings(simulator: Simulator, database_url: str) -> AccessSettings:
    return make_access_settings(
        simulator, with_role(database_url, "pinflow_access"), max_boards_per_account=MAX_BOARDS
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(settings: AccessSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with running_app(create_app(settings)) as client:
        yield client


@pytest.fixture
def connect(http: httpx.AsyncClient, simulator: Simulator, database: Database) -> Connect:
    """Creates a user at Pinterest with that many boards, and connects an account of theirs."""

    async def connect(
        workspace: Workspace, *, boards: int, account_id: UUID | None = None
    ) -> ConnectedAccount:
        user = simulator.create_account(boards=boards)
        connected = await connect_account(
            http, simulator, workspace.headers, user=user["id"], account_id=account_id
        )
        return ConnectedAccount(connected, workspace.headers, simulator, user, database)

    return connect


@pytest_asyncio.fixture(loop_scope="module")
async def account(connect: Connect, workspace: Workspace) -> ConnectedAccount:
    return await connect(workspace, boards=FIRST_BOARDS)


@pytest_asyncio.fixture(loop_scope="module")
async def make_sync(settings: AccessSettings, database: Database) -> AsyncIterator[MakeSync]:
    """Makes the part of another replica that syncs boards. Takes changes of the settings."""
    repository = ConnectionRepository(database, settings.pinterest_mode)
    made: list[ConnectionService] = []

    def make(**changes: Any) -> BoardSync:
        changed = settings.model_copy(update=changes)
        link = PinterestLink.build(changed, repository, PinterestAppClient(changed))
        made.append(ConnectionService(repository, changed, link))
        return BoardSync(ConnectedBoardRepository(database), made[-1], changed)

    yield make
    for connections in made:
        await connections.close()


@pytest_asyncio.fixture(loop_scope="module")
async def often_syncing(
    settings: AccessSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Runs another replica, which looks for accounts that are due every 0.2 s and not every 10."""
    monkeypatch.setattr(sync_module, "CHECK_INTERVAL_SECONDS", 0.2)
    async with running_app(create_app(settings.model_copy(update={"replica": "1"}))):
        yield


@pytest.fixture
def sync(make_sync: MakeSync) -> BoardSync:
    return make_sync()
