"""Two processes of the access service refresh the tokens of one account, and one is killed."""

import asyncio
from uuid import UUID

import httpx
import pytest

from shared.postgres.database import Database
from tests.integration.access.connected_processes import (
    Process,
    execute,
)
from tests.integration.access.tokens.routes import (
    count_refreshes,
    describe,
    get_token,
    refresh,
    report_missing_scope,
)
from tests.integration.conftest import Workspace
from tests.support.processes import RunningProgram
from tests.support.simulator import APP_SECRET, Simulator
from tests.support.waiting import eventually

pytestmark = pytest.mark.processes


async def test_two_processes_refresh_once(
    services: dict[str, RunningProgram], simulator: Simulator, process: Process, account: UUID
) -> None:
    simulator.set_faults("slow", operation="oauth/token", seconds=1)
    before = count_refreshes(simulator)
    answers = await asyncio.gather(
        *(refresh(url, account, 1) for url in services for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {200}
    connection = await process.find(account)
    opened = await process.repository.open(account)
    assert opened is not None
    assert opened.secret is not None
    stored = process.link.vault.open(account, opened.secret)
    assert [answer.json() for answer in answers] == [
        {
            "access_token": stored.access_token.get_secret_value(),
            "token_version": 2,
            "token_expires_at": connection.token_expires_at.isoformat().replace("+00:00", "Z"),
            "mode": "simulated",
        }
    ] * 6
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    assert count_refreshes(simulator) == before + 1
    assert len(await process.call(account)) == 5


async def test_a_refresh_with_an_old_version_does_nothing(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID
) -> None:
    (url, _) = services
    assert (await refresh(url, account, 1)).json()["token_version"] == 2
    before = count_refreshes(simulator)
    assert (await refresh(url, account, 1)).json()["token_version"] == 2
    assert count_refreshes(simulator) == before


async def test_the_routes_need_the_installations_token(
    services: dict[str, RunningProgram], account: UUID
) -> None:
    (url, _) = services
    assert (await refresh(url, account, 1, token="wrong")).status_code == 403
    assert (await get_token(url, account, token="wrong")).status_code == 403


async def test_an_account_without_a_connection_has_no_token(
    services: dict[str, RunningProgram], workspace: Workspace
) -> None:
    (url, _) = services
    account_id = workspace.account_id
    expected = (409, "account_not_connected")
    assert describe(await refresh(url, account_id, 1)) == expected
    assert describe(await get_token(url, account_id)) == expected
    assert describe(await report_missing_scope(url, account_id, 1)) == expected


async def test_no_token_is_in_an_error_or_a_log(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID
) -> None:
    assert {(await get_token(url, account)).status_code for url in services} == {200}
    simulator.set_faults("cut_after", operation="oauth/token", count=1)
    answers = [await refresh(url, account, 1) for url in services]
    simulator.break_tokens("rosa", "revoke")
    answers += [await refresh(url, account, 2) for url in services]
    answers += [await get_token(url, account) for url in services]
    errors = [answer.text for answer in answers if answer.status_code != 200]
    assert len(errors) >= 5
    texts = [*errors, *(program.log.read_text() for program in services.values())]
    assert any("refresh_refused" in text for text in texts)
    for secret in [*simulator.control("GET", "tokens"), APP_SECRET, simulator.token_key]:
        assert not any(secret in text for text in texts)


async def test_a_process_that_is_killed_during_a_refresh_loses_no_account(
    services: dict[str, RunningProgram],
    simulator: Simulator,
    process: Process,
    account: UUID,
    database: Database,
) -> None:
    simulator.change_settings(single_use=False)
    simulator.set_faults("slow", operation="oauth/token", seconds=8, count=1)
    (url, other_url) = services
    issued = len(simulator.control("GET", "tokens"))
    killed = asyncio.create_task(refresh(url, account, 1))
    await eventually(lambda: len(simulator.control("GET", "tokens")) > issued)
    services[url].kill()  # the answer comes 4 s later
    with pytest.raises(httpx.HTTPError):
        await killed
    await execute(
        database, "update access.tokens set lease_until = now() where account_id = :id", account
    )  # as time does
    assert (await refresh(other_url, account, 1)).json()["token_version"] == 2
    assert len(await process.call(account)) == 5
