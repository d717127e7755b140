"""One Pinflow for all that is hostile, with short times, so that what is slow is cut while a test
waits.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import orjson
import psutil
import pytest

from deploy.administration import NewWorkspace
from deploy.services import SERVICES
from tests.acceptance.conftest import deployed_afresh, new_workspace
from tests.acceptance.hostile.wire import Caller
from tests.support.deployment import Deployment
from tests.support.infrastructure import Servers

BODY_SECONDS = 5.0
GATEWAY_SECONDS = {"read_header": 2.0, "read_body": 8.0, "write": 12.0, "idle": 5.0}
LONG = "PINFLOW_HOSTILE_EXAMPLES" in os.environ
"""`make hostile`: what takes too long for every `make test`."""


@pytest.fixture(scope="package")
def pinflow(tmp_path_factory: pytest.TempPathFactory, stack: Servers) -> Iterator[Deployment]:
    """Deploys Pinflow with short times. Fails at its end when a process was lost or restarted,
    something broke, or a client has written a line of a log.
    """
    times = {f"gateway_{name}": f"{seconds}s" for name, seconds in GATEWAY_SECONDS.items()}
    with deployed_afresh(
        tmp_path_factory.mktemp("hostile"), stack, **times, body_seconds=str(BODY_SECONDS)
    ) as deployment:
        yield deployment
        assert all(program.is_alive for program in deployment.programs.values()), deployment.logs()
        for service in SERVICES:
            _check_log(deployment.programs[service].log)


def _check_log(log: Path) -> None:
    for line in log.read_bytes().splitlines():
        event = orjson.loads(line)  # fails for a line that a client began
        assert event["event"] != "request_failed", line.decode()
        assert "exception" not in event, line.decode()
        assert not any(byte < 0x20 or byte == 0x7F for byte in line), line


@pytest.fixture(scope="package")
def workspace(pinflow: Deployment) -> NewWorkspace:
    return new_workspace(pinflow.database_url, "Hostile")


@pytest.fixture(scope="package")
def client(pinflow: Deployment, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    """One that means well."""
    with httpx.Client(
        base_url=pinflow.base_url,
        headers={"X-API-Key": workspace.api_key},
        timeout=40,
        trust_env=False,
    ) as client:
        yield client


@pytest.fixture
def caller(workspace: NewWorkspace) -> Caller:
    return Caller(workspace, uuid4().hex)


def memory_of(pinflow: Deployment) -> dict[str, int]:
    """Resident bytes of each process."""
    return {
        name: int(psutil.Process(program.process.pid).memory_info().rss)
        for name, program in pinflow.programs.items()
    }


@pytest.fixture(scope="package")
def warm(pinflow: Deployment, client: httpx.Client) -> dict[str, int]:
    """Each process's memory when it has done a little of everything."""
    for _ in range(20):
        client.get("/v1/pins")
        client.get("/v1/pins/imports")
        client.post("/v1/pins/imports/json", content=b"[]")
        client.get("/readyz")
    return memory_of(pinflow)


@contextmanager
def memory_bounded(pinflow: Deployment, warm: dict[str, int], most: int) -> Iterator[None]:
    """No process has grown by more than `most` bytes when the block ends."""
    yield
    grown = {name: now - warm[name] for name, now in memory_of(pinflow).items()}
    assert all(growth < most for growth in grown.values()), grown
