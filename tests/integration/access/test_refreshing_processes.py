"""Two processes of the access service refresh the tokens of one account, and one is killed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from deploy.local.ports import choose
from deploy.local.programs import service_program
from shared.access.connection_health import HealthCode
from shared.postgres.database import Database
from tests.integration.access.connected_processes import (
    Process,
    execute,
    make_expired,
    make_settings,
    running_process,
)
from tests.integration.conftest import Workspace
from tests.support import ports
from tests.support.deployment import is_ready, program_for_replica
from tests.support.infrastructure import with_role
from tests.support.processes import RunningProgram
from tests.support.simulator import APP_SECRET, Simulator
from tests.support.waiting import eventually

pytestmark = pytest.mark.processes

TOKEN = secrets.token_urlsafe(18)


@pytest_asyncio.fixture(loop_scope="module")
async def process(database_url: str, simulator: Simulator) -> AsyncIterator[Process]:
    async with running_process(database_url, make_settings(simulator)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def account(process: Process, simulator: Simulator, workspace: Workspace) -> UUID:
    simulator.control("POST", "reset")
    simulator.change_settings(single_use=True)
    return await process.connect(simulator, workspace.id)


@pytest.fixture(scope="module")
def services(
    database_url: str, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RunningProgram]]:
    """Two processes of the access service, by their URLs."""
    with running_services(database_url, simulator, tmp_path_factory.mktemp("access")) as running:
        yield running


@contextmanager
def running_services(
    database_url: str, simulator: Simulator, directory: Path
) -> Iterator[dict[str, RunningProgram]]:
    first_port = ports.SIMULATOR + 10
    chosen = choose({"access": first_port, "access-1": first_port + 1})
    first = service_program(
        "access",
        {
            **simulator.settings(),
            "PINFLOW_DATABASE_URL": with_role(database_url, "pinflow_access"),
            "PINFLOW_INTERNAL_TOKEN": TOKEN,
            "PINFLOW_PORT": str(chosen["access"]),
        },
    )
    second = program_for_replica(first, 1, chosen["access-1"])
    running = {
        f"http://127.0.0.1:{chosen[program.name]}": RunningProgram(program, directory)
        for program in (first, second)
    }
    try:
        for program in running.values():
            program.start()
        for url, program in running.items():
            program.wait_until(partial(is_ready, url))
        yield running
    finally:
        for program in running.values():
            program.close()


async def post(
    url: str, path: str, document: dict[str, Any], *, token: str = TOKEN
) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(
            f"{url}/internal/pinterest/{path}",
            json=document,
            headers={"Authorization": f"Bearer {token}"},
        )


async def get_token(url: str, account_id: UUID, *, token: str = TOKEN) -> httpx.Response:
    return await post(url, "tokens", {"account_id": str(account_id)}, token=token)


async def refresh(
    url: str, account_id: UUID, version: int, *, token: str = TOKEN, is_new: bool = False
) -> httpx.Response:
    document = {"account_id": str(account_id), "token_version": version, "is_new": is_new}
    return await post(url, "tokens/refresh", document, token=token)


async def report_missing_scope(url: str, account_id: UUID, version: int) -> httpx.Response:
    document = {"account_id": str(account_id), "token_version": version, "code": "scope_missing"}
    return await post(url, "health", document)


def describe(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


def count_refreshes(simulator: Simulator) -> int:
    return sum(
        request["operation"] == "oauth/token" for request in simulator.control("GET", "requests")
    )


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
    simulator.set_faults("slow", operation="oauth/token", seconds=4, count=1)
    (url, other_url) = services
    issued = len(simulator.control("GET", "tokens"))
    killed = asyncio.create_task(refresh(url, account, 1))
    await eventually(lambda: len(simulator.control("GET", "tokens")) > issued)
    services[url].kill()  # the answer comes 2 s later
    with pytest.raises(httpx.HTTPError):
        await killed
    await execute(
        database, "update access.tokens set lease_until = now() where account_id = :id", account
    )  # as time does
    assert (await refresh(other_url, account, 1)).json()["token_version"] == 2
    assert len(await process.call(account)) == 5
