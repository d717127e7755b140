"""Two processes of the access service refresh the tokens of one account, and one is killed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from deploy.local.ports import choose
from deploy.local.programs import service_program
from shared.postgres.database import Database
from tests.integration.access.connected_processes import (
    Process,
    execute,
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
PATH = "/internal/pinterest/tokens/refresh"


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


async def refresh(
    url: str, account_id: UUID, version: int, *, token: str = TOKEN
) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(
            url + PATH,
            json={"account_id": str(account_id), "token_version": version},
            headers={"Authorization": f"Bearer {token}"},
        )


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
    assert [answer.json() for answer in answers] == [
        {
            "token_version": 2,
            "token_expires_at": connection.token_expires_at.isoformat().replace("+00:00", "Z"),
        }
    ] * 6
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


async def test_the_route_needs_the_installations_token(
    services: dict[str, RunningProgram], account: UUID
) -> None:
    (url, _) = services
    assert (await refresh(url, account, 1, token="wrong")).status_code == 403


async def test_an_account_without_a_connection_is_not_refreshed(
    services: dict[str, RunningProgram], workspace: Workspace
) -> None:
    (url, _) = services
    answer = await refresh(url, workspace.account_id, 1)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (409, "account_not_connected")


async def test_no_token_is_in_an_answer_or_a_log(
    services: dict[str, RunningProgram], simulator: Simulator, account: UUID
) -> None:
    simulator.set_faults("cut_after", operation="oauth/token", count=1)
    answers = [(await refresh(url, account, 1)).text for url in services]
    simulator.break_tokens("rosa", "revoke")
    answers += [(await refresh(url, account, 2)).text for url in services]
    texts = [*answers, *(program.log.read_text() for program in services.values())]
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
