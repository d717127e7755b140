"""Boards of connected accounts are read from Pinterest, and a failed read changes nothing."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text

from services.access.boards.sync import BoardSync
from shared.access.model import BoardCheck, Destination
from shared.postgres.database import Database
from tests.integration.access.boards.conftest import (
    MAX_BOARDS,
    Connect,
    ConnectedAccount,
    MakeSync,
)
from tests.integration.access.test_boards import (
    WAITING,
    create_board,
    delete_board,
    list_accounts,
    list_boards,
    revoke,
    update_board,
)
from tests.integration.conftest import Workspace
from tests.support.connections import connect_account
from tests.support.waiting import eventually

pytestmark = pytest.mark.processes
SECOND_PAGE_FAILS: dict[str, Any] = {"share": 0.5, "operation": "boards/list", "count": 1}
"""The simulator's seed lets the first request of `error_after` pass, and fails the second."""


async def test_all_pages_are_stored_and_a_page_that_fails_changes_nothing(
    http: httpx.AsyncClient, workspace: Workspace, connect: Connect, make_sync: MakeSync
) -> None:
    account = await connect(workspace, boards=600)
    sync = make_sync(max_boards_per_account=2000)
    account.forget_requests()
    assert await sync.sync(account.id)
    pages = account.requests()
    assert [request["query"].get("page_size") for request in pages] == ["250"] * 3
    boards = (await list_boards(http, account.headers, account.id)).json()
    assert [board["id"] for board in boards] == sorted(account.board_ids())
    assert len(boards) == 600

    account.delete_at_pinterest(account.board_ids()[0])
    account.forget_requests()
    account.simulator.set_faults("error_after", **SECOND_PAGE_FAILS)
    assert not await sync.sync(account.id)
    assert [request["status"] for request in account.requests()] == [200, 500]
    assert (await list_boards(http, account.headers, account.id)).json() == boards
    assert await sync.sync(account.id)
    assert set(await account.read_stored()) == set(account.board_ids())


async def test_a_connected_account_has_the_boards_of_its_user(
    http: httpx.AsyncClient, workspace: Workspace, account: ConnectedAccount
) -> None:
    assert set(await account.read_stored()) == set(account.board_ids())
    connection = await account.read_connection()
    assert connection["boards_message"] is None
    assert connection["boards_synced_at"] is not None
    assert 60 * 60 * 0.85 < connection["due_in"] < 60 * 60 * 1.15
    # The other account of the workspace is not connected
    assert len((await list_boards(http, account.headers, workspace.account_id)).json()) == 1


async def test_changes_at_pinterest_are_stored(account: ConnectedAccount, sync: BoardSync) -> None:
    kept, renamed, deleted = account.board_ids()
    before = await account.read_stored()
    account.change_at_pinterest(renamed, name="Rugs", description="Warm")
    account.delete_at_pinterest(deleted)
    added = account.create_at_pinterest(name="Chairs", privacy="PROTECTED")
    assert await sync.sync(account.id)
    after = await account.read_stored()
    assert set(after) == {kept, renamed, added}
    assert after[kept] == before[kept]  # not written again
    assert (after[renamed]["name"], after[renamed]["description"]) == ("Rugs", "Warm")
    assert after[renamed]["created_at"] == before[renamed]["created_at"]
    assert (after[added]["privacy"], after[added]["workspace_id"]) == (
        "PROTECTED",
        before[kept]["workspace_id"],
    )


async def test_boards_that_an_account_had_before_its_connection_are_replaced(
    http: httpx.AsyncClient, workspace: Workspace, connect: Connect
) -> None:
    account = await connect(workspace, boards=2, account_id=workspace.account_id)
    assert account.id == workspace.account_id
    boards = (await list_boards(http, account.headers, account.id)).json()
    assert [board["id"] for board in boards] == sorted(account.board_ids())


async def test_a_failed_sync_is_put_off_and_makes_the_account_degraded(
    http: httpx.AsyncClient, account: ConnectedAccount, sync: BoardSync
) -> None:
    before = await account.read_stored()
    account.set_faults("error_before", operation="boards/list")
    for failures, seconds in ((1, 60), (2, 120)):
        assert not await sync.sync(account.id)
        connection = await account.read_connection()
        assert connection["boards_failures"] == failures
        assert seconds - 10 < connection["due_in"] <= seconds
    health = {item.id: item for item in await list_accounts(http, account.headers)}[account.id]
    assert (health.health_status, health.reconnect_required) == ("degraded", False)
    assert health.health_message == connection["boards_message"]
    assert await account.read_stored() == before
    account.clear_faults()
    assert await sync.sync(account.id)
    connection = await account.read_connection()
    assert (connection["boards_failures"], connection["boards_message"]) == (0, None)


async def test_a_rate_limit_is_waited_for(account: ConnectedAccount, sync: BoardSync) -> None:
    account.set_faults("rate_limit", operation="boards/list", seconds=900)
    assert not await sync.sync(account.id)
    assert 880 < (await account.read_connection())["due_in"] <= 900


async def test_the_oldest_boards_are_taken_up_to_the_limit(
    http: httpx.AsyncClient, workspace: Workspace, connect: Connect
) -> None:
    account = await connect(workspace, boards=MAX_BOARDS + 2)
    stored = await account.read_stored()
    assert set(stored) == set(sorted(account.board_ids())[:MAX_BOARDS])
    health = {item.id: item for item in await list_accounts(http, account.headers)}[account.id]
    assert health.health_message is not None
    assert "2 boards more than the 20" in health.health_message


async def test_a_list_that_was_overtaken_by_a_change_is_read_again(
    account: ConnectedAccount, sync: BoardSync, database: Database
) -> None:
    async def is_waiting() -> bool:
        return await database.fetch_first(WAITING) == {"count": 1}

    async with database.transaction() as connection:
        await connection.execute(
            text("select from access.connections where account_id = :id for update"),
            {"id": account.id},
        )
        syncing = asyncio.create_task(sync.sync(account.id))
        await eventually(is_waiting)
        # The list is read, and not stored yet. Meanwhile another process stores a newer one
        account.delete_at_pinterest(account.board_ids()[0])
        await connection.execute(
            text(
                "update access.connections set boards_version = boards_version + 1"
                " where account_id = :id"
            ),
            {"id": account.id},
        )
    assert await syncing
    assert set(await account.read_stored()) == set(account.board_ids())


async def test_a_list_that_ends_after_the_disconnection_is_not_stored(
    account: ConnectedAccount, sync: BoardSync, database: Database
) -> None:
    before = await account.read_stored()

    async def is_waiting() -> bool:
        return await database.fetch_first(WAITING) == {"count": 1}

    account.create_at_pinterest(name="Late")
    async with database.transaction() as connection:
        await connection.execute(
            text("update access.connections set disconnected_at = now() where account_id = :id"),
            {"id": account.id},
        )
        syncing = asyncio.create_task(sync.sync(account.id))
        await eventually(is_waiting)
    assert not await syncing
    assert await account.read_stored() == before


async def test_a_list_that_was_read_for_an_earlier_connection_is_not_stored(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    before = (await account.read_connection())["boards_version"]
    reconnected = await connect_account(
        http, account.simulator, account.headers, user=account.user_id
    )
    assert reconnected == account.id
    # One for the connection, and one for the list that is read then
    assert (await account.read_connection())["boards_version"] == before + 2


async def test_a_missing_key_of_tokens_puts_off_the_sync_and_is_no_fault_of_the_account(
    http: httpx.AsyncClient, account: ConnectedAccount, make_sync: MakeSync
) -> None:
    other_key = SecretStr(Fernet.generate_key().decode())
    assert not await make_sync(pinterest_token_keys=other_key).sync(account.id)
    connection = await account.read_connection()
    assert (connection["boards_failures"], connection["boards_message"]) == (1, None)
    health = {item.id: item for item in await list_accounts(http, account.headers)}[account.id]
    assert health.health_status == "healthy"


async def test_syncs_and_changes_at_once_end_with_the_boards_of_pinterest(
    http: httpx.AsyncClient, account: ConnectedAccount, make_sync: MakeSync
) -> None:
    renamed, deleted, _ = account.board_ids()
    syncs = [make_sync() for _ in range(3)]
    await asyncio.gather(
        *(sync.sync(account.id) for sync in syncs),
        *(create_board(http, account.headers, account.id, name=str(n)) for n in range(5)),
        update_board(http, account.headers, account.id, renamed, name="Rugs"),
        delete_board(http, account.headers, account.id, deleted),
        *(sync.sync(account.id) for sync in syncs),
    )
    stored = await account.read_stored()
    assert set(stored) == set(account.board_ids())
    assert stored[renamed]["name"] == "Rugs"
    assert len(stored) == account.first_boards + 4


async def test_accounts_that_are_due_are_synced_once_by_all_replicas(
    workspace: Workspace, connect: Connect, make_sync: MakeSync, database: Database
) -> None:
    await clear_due(database)
    due = [await connect(workspace, boards=1) for _ in range(4)]
    later = await connect(workspace, boards=1)
    for account in due:
        await account.change_connection("boards_due_at = now()")
    for account in (*due, later):
        account.forget_requests()
    numbers = await asyncio.gather(*(make_sync().sync_due() for _ in range(3)))
    assert sum(numbers) == len(due)
    assert [len(account.requests()) for account in (*due, later)] == [1, 1, 1, 1, 0]
    assert await make_sync().sync_due() == 0


async def test_accounts_that_can_not_be_read_are_not_due(
    http: httpx.AsyncClient,
    workspace: Workspace,
    connect: Connect,
    sync: BoardSync,
    database: Database,
) -> None:
    await clear_due(database)
    expired, elsewhere, revoked, disconnected = [
        await connect(workspace, boards=1) for _ in range(4)
    ]
    await expired.change_connection("boards_due_at = now(), health_code = 'token_revoked'")
    await elsewhere.change_connection("boards_due_at = now(), mode = 'sandbox'")
    await revoked.change_connection("boards_due_at = now()")
    async with database.transaction() as connection:
        await connection.execute(
            text("update access.accounts set revoked_at = now() where id = :id"),
            {"id": revoked.id},
        )
    await disconnected.change_connection("boards_due_at = now()")
    await revoke(http, disconnected.headers, disconnected.id)
    assert await sync.sync_due() == 0


@pytest.mark.usefixtures("often_syncing")
async def test_the_service_syncs_accounts_that_are_due(
    account: ConnectedAccount,
) -> None:
    added = account.create_at_pinterest(name="Chairs")
    await account.change_connection("boards_due_at = now()")

    async def is_stored() -> bool:
        return added in await account.read_stored()

    await eventually(is_stored, seconds=30)


async def test_imports_find_boards_of_connected_accounts_by_id_and_name(
    workspace: Workspace, account: ConnectedAccount, sync: BoardSync
) -> None:
    kept, renamed, deleted = account.board_ids()
    account.change_at_pinterest(renamed, name="Lámparas")
    account.delete_at_pinterest(deleted)
    await sync.sync(account.id)
    accounts, boards = await workspace.access.find_by_names(
        workspace.id, [str(account.id)], [kept, "LÁMPARAS", deleted]
    )
    assert [found.id for found in accounts] == [account.id]
    assert {board.board_id for board in boards} == {kept, renamed}
    known, also_known, gone = [
        Destination(workspace.id, account.id, board_id) for board_id in (kept, renamed, deleted)
    ]
    assert await workspace.access.check_boards([known, also_known, gone]) == {
        known: BoardCheck.KNOWN,
        also_known: BoardCheck.KNOWN,
        gone: BoardCheck.NO_BOARD,
    }


async def test_an_account_that_was_never_connected_has_nothing_to_sync(
    workspace: Workspace, sync: BoardSync
) -> None:
    assert not await sync.sync(workspace.account_id)
    assert not await sync.sync(uuid4())


async def clear_due(database: Database) -> None:
    """Puts off the accounts of other tests."""
    async with database.transaction() as connection:
        await connection.execute(
            text("update access.connections set boards_due_at = now() + interval '1 day'")
        )
