"""Two processes of the access service, and requests to its internal routes of tokens."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from deploy.local.ports import choose
from deploy.local.programs import service_program
from tests.support import ports
from tests.support.deployment import is_ready, program_for_replica
from tests.support.infrastructure import with_role
from tests.support.processes import RunningProgram
from tests.support.simulator import Simulator

TOKEN = secrets.token_urlsafe(18)


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
