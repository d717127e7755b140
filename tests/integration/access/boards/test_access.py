"""The check of a connected account's board asks Pinterest."""

from typing import Any

import httpx
import pytest
from pinbridge_sdk.models.pinterest import BoardAccessResponse
from sqlalchemy import text

from services.access.boards.sync import BoardSync
from shared.postgres.database import Database
from tests.integration.access.boards.conftest import Connect, ConnectedAccount
from tests.integration.access.test_boards import check_access, revoke
from tests.integration.conftest import Workspace

pytestmark = pytest.mark.processes


async def check(
    http: httpx.AsyncClient, account: ConnectedAccount, board_id: str
) -> BoardAccessResponse:
    answer = await check_access(http, account.headers, account.id, board_id)
    assert answer.status_code == 200
    return BoardAccessResponse.model_validate(answer.json())


async def test_a_board_that_pinterest_shows_can_be_published_to(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.board_ids()[0]
    account.forget_requests()
    good = await check(http, account, board_id)
    assert (good.publishable, good.status, good.code, good.source) == (
        True,
        "ok",
        None,
        "pinterest",
    )
    assert (good.remediation, good.retry_after_seconds) == (None, None)
    assert good.board is not None
    assert good.board["id"] == board_id
    assert good.account_health is not None
    assert good.account_health["health_status"] == "healthy"
    assert [request["operation"] for request in account.requests()] == ["boards/get"]


async def test_the_check_updates_the_board_in_the_store(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.board_ids()[0]
    account.change_at_pinterest(board_id, name="Rugs")
    checked = await check(http, account, board_id)
    assert checked.board is not None
    assert checked.board["name"] == "Rugs"
    assert (await account.read_stored())[board_id]["name"] == "Rugs"


async def test_a_board_that_is_new_at_pinterest_is_stored_by_the_check(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    await account.change_connection("boards_synced_at = now() - interval '1 minute'")
    board_id = account.create_at_pinterest(name="Chairs")
    checked = await check(http, account, board_id)
    assert (checked.publishable, checked.source) == (True, "pinterest")
    assert board_id in await account.read_stored()


async def test_boards_that_are_not_listed_read_the_list_once_in_a_while(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.create_at_pinterest(name="Chairs")
    account.forget_requests()
    for _ in range(3):  # the list was read a moment ago
        checked = await check(http, account, board_id)
        assert (checked.publishable, checked.code) == (False, "board_access_denied")
    assert {request["operation"] for request in account.requests()} == {"boards/get"}


async def test_a_board_that_pinterest_does_not_have_is_not_found(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.board_ids()[0]
    account.delete_at_pinterest(board_id)
    for unknown in (board_id, "1" * 18):
        checked = await check(http, account, unknown)
        assert (checked.publishable, checked.code, checked.source) == (
            False,
            "board_not_found",
            "pinterest",
        )
        assert checked.remediation is not None
    assert (await account.read_connection())["due_in"] <= 0  # the list is read again soon


async def test_ids_that_are_no_numbers_are_not_sent_to_pinterest(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    account.forget_requests()
    for unknown in ("board-1", "%00", "%2e%2e", "1" * 300, "٣"):
        checked = await check(http, account, unknown)
        assert (checked.code, checked.source, checked.board) == ("board_not_found", "store", None)
    assert account.requests() == []


async def test_another_users_board_is_denied(
    http: httpx.AsyncClient, account: ConnectedAccount, workspace: Workspace, connect: Connect
) -> None:
    other = await connect(workspace, boards=1)
    checked = await check(http, account, other.board_ids()[0])
    assert (checked.publishable, checked.code) == (False, "board_access_denied")


@pytest.mark.parametrize(
    ("fault", "code", "seconds"),
    [
        ({"kind": "cut_before"}, "pinterest_unavailable", 5),
        ({"kind": "error_before"}, "pinterest_unavailable", 5),
        ({"kind": "rate_limit", "seconds": 120}, "rate_limited", 120),
        ({"kind": "board_refused"}, "board_access_denied", None),
        ({"kind": "token"}, "pinterest_unavailable", 5),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
async def test_the_check_says_why_it_could_not_be_made(
    http: httpx.AsyncClient,
    account: ConnectedAccount,
    fault: dict[str, Any],
    code: str,
    seconds: int | None,
) -> None:
    board_id = account.board_ids()[0]
    account.simulator.set_faults(operation="boards/get", **fault)
    checked = await check(http, account, board_id)
    assert (checked.publishable, checked.status, checked.code) == (False, "failed", code)
    assert checked.source == "pinterest"
    assert checked.message
    assert checked.remediation
    if seconds is None:
        assert checked.retry_after_seconds is None
    else:
        assert checked.retry_after_seconds is not None
        assert seconds - 5 <= checked.retry_after_seconds <= seconds
    assert board_id in await account.read_stored()


async def test_an_account_that_must_be_connected_again_says_so(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    account.simulator.break_tokens(account.user_id, "revoke")
    board_id = next(iter(await account.read_stored()))
    for _ in range(2):
        checked = await check(http, account, board_id)
        assert (checked.code, checked.publishable) == ("token_expired", False)
        assert checked.account_health is not None
        assert checked.account_health["reconnect_required"] is True
        assert "/v1/pinterest/oauth/start" in str(checked.remediation)


async def test_an_account_without_all_rights_can_not_publish(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    await account.change_connection("scopes = '{boards:read,user_accounts:read}'")
    checked = await check(http, account, account.board_ids()[0])
    assert (checked.publishable, checked.code) == (False, "scope_missing")
    assert "boards:write, pins:read, pins:write" in checked.message


async def test_a_disconnected_account_is_not_asked_about(
    http: httpx.AsyncClient, account: ConnectedAccount, workspace: Workspace
) -> None:
    board_id = account.board_ids()[0]
    await revoke(http, account.headers, account.id)
    account.forget_requests()
    revoked = await check(http, account, board_id)
    assert (revoked.code, revoked.source) == ("token_revoked", "store")
    await workspace.operator.restore_account(workspace.id, account.id)
    restored = await check(http, account, board_id)
    assert (restored.code, restored.publishable) == ("account_not_connected", False)
    assert account.requests() == []


async def test_an_account_without_a_connection_is_checked_in_the_store(
    http: httpx.AsyncClient, workspace: Workspace, sync: BoardSync, database: Database
) -> None:
    assert not await sync.sync(workspace.account_id)
    answer = (await check_access(http, workspace.headers, workspace.account_id)).json()
    assert (answer["publishable"], answer["source"]) == (True, "store")
    query = text("select from access.connections where account_id = :id")
    assert await database.fetch_first(query.bindparams(id=workspace.account_id)) is None
