"""Two processes of the access service hand out tokens to the delivery process."""

import asyncio
from uuid import UUID

import pytest
from pydantic import SecretStr

from services.publisher.delivery.tokens.client import AccessTokens
from services.publisher.delivery.tokens.failures import (
    AccessAway,
    AccountGivenUp,
    TokenUnavailable,
)
from shared.access.connection_health import HealthCode
from shared.http.client import create_http_pool
from shared.http.internal import InternalClient
from shared.postgres.database import Database
from tests.integration.access.connected_processes import (
    Process,
    execute,
    make_expired,
)
from tests.integration.access.tokens.routes import (
    TOKEN,
    count_refreshes,
    describe,
    get_token,
    refresh,
    report_missing_scope,
)
from tests.integration.conftest import Workspace
from tests.support.processes import RunningProgram
from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes


async def test_the_token_that_is_handed_out_works(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID
) -> None:
    for url in services:
        answer = await get_token(url, account)
        assert answer.headers["cache-control"] == "no-store"
        handed = answer.json()
        assert (handed["token_version"], handed["mode"]) == (1, "simulated")
        assert simulator.call("GET", "/boards", handed["access_token"]).status_code == 200


async def test_an_expired_token_is_refreshed_once_before_it_is_handed_out(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID, database: Database
) -> None:
    simulator.break_tokens("rosa", "expire_access")
    await make_expired(database, account)
    before = count_refreshes(simulator)
    answers = await asyncio.gather(*(get_token(url, account) for url in services))
    assert [answer.json()["token_version"] for answer in answers] == [2, 2]
    assert count_refreshes(simulator) == before + 1
    token = answers[0].json()["access_token"]
    assert simulator.call("GET", "/boards", token).status_code == 200


async def test_an_account_that_was_given_up_has_no_token_until_it_is_connected_again(
    services: dict[str, RunningProgram],
    simulator: Simulator,
    process: Process,
    workspace: Workspace,
    account: UUID,
) -> None:
    (url, other_url) = services
    simulator.break_tokens("rosa", "revoke")
    refused = await refresh(url, account, 1)
    assert describe(refused) == (409, "token_revoked")
    assert refused.json()["detail"]["message"].endswith("Connect it again.")
    before = count_refreshes(simulator)
    assert describe(await get_token(other_url, account)) == (409, "token_revoked")
    assert describe(await refresh(other_url, account, 1)) == (409, "token_revoked")
    assert count_refreshes(simulator) == before
    await process.connect(simulator, workspace.id)
    assert (await get_token(other_url, account)).json()["token_version"] == 2


async def test_tokens_that_were_left_alone_have_expired(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID, database: Database
) -> None:
    (url, _) = services
    simulator.break_tokens("rosa", "revoke")
    await make_expired(database, account)
    expire = "update access.connections set refresh_expires_at = now() where account_id = :id"
    await execute(database, expire, account)
    assert describe(await get_token(url, account)) == (409, "token_expired")


async def test_a_disconnected_account_has_no_token(
    services: dict[str, RunningProgram], process: Process, workspace: Workspace, account: UUID
) -> None:
    (url, _) = services
    await process.service.disconnect(workspace.id, account)
    assert describe(await get_token(url, account)) == (409, "account_not_connected")
    assert describe(await refresh(url, account, 1)) == (409, "account_not_connected")


async def test_an_account_of_another_mode_has_no_token(
    services: dict[str, RunningProgram], account: UUID, database: Database
) -> None:
    (url, _) = services
    change = "update access.connections set mode = 'sandbox' where account_id = :id"
    await execute(database, change, account)
    answer = await get_token(url, account)
    assert describe(answer) == (409, "account_not_connected")
    assert "in the mode sandbox" in answer.json()["detail"]["message"]


async def test_a_fault_that_passes_costs_no_account(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID, database: Database
) -> None:
    (url, _) = services
    await make_expired(database, account)
    simulator.set_faults("error_before", operation="oauth/token", count=1)
    answer = await get_token(url, account)
    assert describe(answer) == (503, "pinterest_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert (await get_token(url, account)).json()["token_version"] == 2


async def test_a_new_token_that_is_refused_is_not_refreshed_at_once(
    services: dict[str, RunningProgram],
    simulator: Simulator,
    process: Process,
    account: UUID,
    database: Database,
) -> None:
    (url, other_url) = services
    assert (await refresh(url, account, 1)).json()["token_version"] == 2
    before = count_refreshes(simulator)
    assert describe(await refresh(url, account, 2, is_new=True)) == (503, "pinterest_unavailable")
    assert describe(await refresh(other_url, account, 2)) == (503, "pinterest_unavailable")
    assert count_refreshes(simulator) == before
    assert (await process.find(account)).health_code is HealthCode.REFRESH_FAILED

    again = """
        update access.tokens set refused_tries = 4, refused_since = now() - interval '61 minutes',
            refused_version = 1
        where account_id = :id
    """
    await execute(database, again, account)
    assert describe(await refresh(url, account, 2, is_new=True)) == (409, "token_revoked")
    assert describe(await get_token(other_url, account)) == (409, "token_revoked")


async def test_a_missing_right_is_noted_if_the_user_did_not_allow_everything(
    services: dict[str, RunningProgram], process: Process, account: UUID, database: Database
) -> None:
    (url, _) = services
    assert (await report_missing_scope(url, account, 1)).json() == {"is_noted": False}
    assert (await process.find(account)).health_code is None
    change = "update access.connections set scopes = '{boards:read}' where account_id = :id"
    await execute(database, change, account)
    assert (await report_missing_scope(url, account, 1)).json() == {"is_noted": True}
    assert (await process.find(account)).health_code is HealthCode.SCOPE_MISSING
    handed = (await get_token(url, account)).json()  # a token still works for the rest
    assert handed["token_version"] == 1
    assert len(await process.call(account)) == 5
    assert (await process.find(account)).health_code is HealthCode.SCOPE_MISSING


async def test_a_late_report_does_not_concern_later_tokens(
    services: dict[str, RunningProgram], process: Process, account: UUID, database: Database
) -> None:
    (url, _) = services
    change = "update access.connections set scopes = '{boards:read}' where account_id = :id"
    await execute(database, change, account)
    assert (await report_missing_scope(url, account, 2)).json() == {"is_noted": False}
    assert (await process.find(account)).health_code is None


async def test_the_delivery_process_gets_tokens_from_any_process(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID
) -> None:
    async with create_http_pool() as pool:
        urls = ",".join(["http://127.0.0.1:1", *services])
        client = InternalClient("access", pool, urls, SecretStr(TOKEN))
        tokens = AccessTokens(client, "simulated")
        token = await tokens.get(account)
        answer = simulator.call("GET", "/boards", token.value.get_secret_value())
        assert answer.status_code == 200
        simulator.break_tokens("rosa", "expire_access")
        token = await tokens.refresh(account, token.version)
        assert token.version == 2
        answer = simulator.call("GET", "/boards", token.value.get_secret_value())
        assert answer.status_code == 200
        assert await tokens.report_scope_missing(account, 2) is False
        simulator.break_tokens("rosa", "revoke")
        with pytest.raises(TokenUnavailable):  # it was refreshed just now
            await tokens.refresh(account, 2)
        with pytest.raises(AccessAway):
            await AccessTokens(client, "sandbox").get(account)


async def test_the_delivery_process_knows_a_lost_account_from_access_that_is_away(
    services: dict[str, RunningProgram],
    simulator: Simulator,
    process: Process,
    workspace: Workspace,
    account: UUID,
) -> None:
    async with create_http_pool() as pool:
        client = InternalClient("access", pool, ",".join(services), SecretStr(TOKEN))
        tokens = AccessTokens(client, "simulated")
        token = await tokens.get(account)
        simulator.break_tokens("rosa", "revoke")
        with pytest.raises(AccountGivenUp, match="Connect it again"):
            await tokens.refresh(account, token.version)
        with pytest.raises(AccountGivenUp):
            await tokens.get(account)
        await process.connect(simulator, workspace.id)
        assert (await tokens.get(account)).version == 2
        away = InternalClient("access", pool, "http://127.0.0.1:1", SecretStr(TOKEN))
        with pytest.raises(AccessAway):
            await AccessTokens(away, "simulated").get(account)
