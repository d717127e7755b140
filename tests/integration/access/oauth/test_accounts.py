"""Connected accounts are refreshed on request, disconnected, and tell their health."""

import asyncio

import pytest

from services.access.app import create_app
from shared.postgres.database import Database
from tests.integration.access.oauth.conftest import Pinflow, read_error
from tests.integration.access.oauth.test_connecting import execute, read_connection
from tests.integration.conftest import Workspace, make_workspace
from tests.support.connections import make_access_settings
from tests.support.infrastructure import with_role
from tests.support.services import running_app

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_refresh_renews_the_token_and_reads_name_and_boards(
    pinflow: Pinflow, database: Database
) -> None:
    user = pinflow.simulator.create_account(boards=1)
    account_id = await pinflow.connect(user["username"])
    before = await read_connection(database, account_id)
    await execute(
        database,
        "update access.accounts set username = 'old' where id = cast(:id as uuid)",
        id=account_id,
    )
    answer = await pinflow.refresh(account_id)
    assert (answer.status_code, answer.json()["id"]) == (200, account_id)
    assert answer.json()["username"] == user["username"]
    after = await read_connection(database, account_id)
    assert after["token_version"] == before["token_version"] + 1
    assert after["boards_synced_at"] > before["boards_synced_at"]
    assert answer.json() == (await pinflow.list_accounts())[account_id]


async def test_refreshes_within_half_a_minute_ask_pinterest_once(
    pinflow: Pinflow, database: Database
) -> None:
    account_id = await pinflow.connect("tom")
    version = (await read_connection(database, account_id))["token_version"]
    answers = await asyncio.gather(*(pinflow.refresh(account_id) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert (await read_connection(database, account_id))["token_version"] == version + 1
    await execute(
        database,
        "update access.connections set refresh_asked_at = now() - interval '30 s'"
        " where account_id = cast(:id as uuid)",
        id=account_id,
    )
    await pinflow.refresh(account_id)
    assert (await read_connection(database, account_id))["token_version"] == version + 2


async def test_a_refresh_tells_that_pinterest_revoked_the_access(pinflow: Pinflow) -> None:
    user = pinflow.simulator.create_account()
    account_id = await pinflow.connect(user["username"])
    pinflow.simulator.break_tokens(user["id"], "revoke")
    assert read_error(await pinflow.refresh(account_id)) == (409, "token_expired")
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["reconnect_required"]) == (
        "reconnect_required",
        True,
    )
    assert account["revoked_at"] is None
    assert await pinflow.connect(user["username"], account_id=account_id) == account_id
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["reconnect_required"]) == ("healthy", False)


async def test_a_refresh_while_pinterest_is_down_keeps_the_account(pinflow: Pinflow) -> None:
    account_id = await pinflow.connect("rosa")
    pinflow.simulator.set_faults("error_before", operation="*")
    answer = await pinflow.refresh(account_id)
    assert read_error(answer) == (503, "pinterest_unavailable")
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["reconnect_required"]) == ("degraded", False)


async def test_a_second_refresh_within_30_seconds_says_that_it_did_nothing(
    pinflow: Pinflow,
) -> None:
    account_id = await pinflow.connect("rosa")
    first, second = [await pinflow.refresh(account_id) for _ in range(2)]
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json() == first.json()


async def test_an_account_without_a_connection_is_not_refreshed(
    pinflow: Pinflow, database: Database
) -> None:
    unconnected = pinflow.workspace.account_id
    assert read_error(await pinflow.refresh(unconnected)) == (409, "account_not_connected")
    other = Pinflow(pinflow.http, pinflow.simulator, await make_workspace(database))
    assert read_error(await pinflow.refresh(await other.connect("rosa"))) == (404, "not_found")


async def test_a_revoked_account_has_no_tokens_and_connects_again(
    pinflow: Pinflow, database: Database
) -> None:
    account_id = await pinflow.connect("rosa")
    path = f"/v1/pinterest/accounts/{account_id}"
    for _ in range(2):
        assert (await pinflow.http.delete(path, headers=pinflow.headers)).status_code == 204
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["token_expires_at"]) == ("revoked", None)
    assert read_error(await pinflow.refresh(account_id)) == (409, "account_not_connected")
    async with database.transaction() as connection:
        tokens = await connection.exec_driver_sql(
            "select account_id from access.tokens where account_id = %s", (account_id,)
        )
        assert tokens.all() == []
    assert await pinflow.connect("rosa") == account_id
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["revoked_at"]) == ("healthy", None)


async def test_an_account_that_an_operator_restores_is_still_disconnected(
    pinflow: Pinflow, workspace: Workspace, database: Database
) -> None:
    account_id = await pinflow.connect("rosa")
    await pinflow.http.delete(f"/v1/pinterest/accounts/{account_id}", headers=pinflow.headers)
    await execute(
        database,
        "update access.accounts set revoked_at = null where id = cast(:id as uuid)",
        id=account_id,
    )
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["reconnect_required"]) == (
        "reconnect_required",
        True,
    )
    assert "is disconnected" in account["health_message"]


async def test_a_connection_of_another_mode_has_to_be_made_again(
    pinflow: Pinflow, database_url: str
) -> None:
    account_id = await pinflow.connect("rosa")
    settings = make_access_settings(
        pinflow.simulator,
        with_role(database_url, "pinflow_access"),
        pinterest_mode="sandbox",
        pinterest_api_url=pinflow.simulator.api_url,
        replica="3",
    )
    async with running_app(create_app(settings)) as http:
        elsewhere = Pinflow(http, pinflow.simulator, pinflow.workspace)
        account = (await elsewhere.list_accounts())[account_id]
        assert account["health_status"] == "reconnect_required"
        assert "in the mode simulated" in account["health_message"]
        assert read_error(await elsewhere.refresh(account_id)) == (409, "account_not_connected")
    assert (await pinflow.list_accounts())[account_id]["health_status"] == "healthy"
