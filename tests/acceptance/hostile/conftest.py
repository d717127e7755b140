"""One Pinflow for all hostile requests.

Its timeouts are short, so that a test sees slow connections closed.
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
from tests.acceptance.conftest import create_client, deployed_afresh, new_workspace
from tests.acceptance.hostile.wire import Caller
from tests.support.connections import name_settings
from tests.support.deployment import Deployment
from tests.support.infrastructure import Servers
from tests.support.simulator import running_simulator

BODY_SECONDS = 6.0
GATEWAY_SECONDS = {"read_header": 4.0, "read_body": 10.0, "write": 16.0, "idle": 8.0}
"""Enough for other requests on a busy machine.

The service gives up a body before the gateway does, `read_body`. The gateway passes its answer on
after it has stopped reading, for which `write` must leave time. An idle connection must last longer
than httpx keeps it, 5 s.
"""
LONG = "PINFLOW_HOSTILE_EXAMPLES" in os.environ
"""True in `make hostile`, which has cases that take too long for `make test`."""


@pytest.fixture(scope="package")
def pinflow(tmp_path_factory: pytest.TempPathFactory, stack: Servers) -> Iterator[Deployment]:
    """Deploys Pinflow with short timeouts, and a simulator of Pinterest.

    Fails at its end if a process has died, a request failed with an exception, or a client could
    write a line into a log.
    """
    times = {f"gateway_{name}": f"{seconds}s" for name, seconds in GATEWAY_SECONDS.items()}
    with (
        running_simulator() as simulator,
        deployed_afresh(
            tmp_path_factory.mktemp("hostile"),
            stack,
            **times,
            **name_settings(simulator),
            body_seconds=str(BODY_SECONDS),
        ) as deployment,
    ):
        yield deployment
        assert all(program.is_alive for program in deployment.programs.values()), deployment.logs()
        for service in SERVICES:
            _check_log(deployment.programs[service].log)


def _check_log(log: Path) -> None:
    for line in log.read_bytes().splitlines():
        event = orjson.loads(line)  # fails if a client could begin a line
        assert event["event"] != "request_failed", line.decode()
        assert "exception" not in event, line.decode()
        assert not any(byte < 0x20 or byte == 0x7F for byte in line), line


@pytest.fixture(scope="package")
def workspace(pinflow: Deployment) -> NewWorkspace:
    return new_workspace(pinflow.database_url, "Hostile")


@pytest.fixture(scope="package")
def client(pinflow: Deployment, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    """A client of the gateway with the key of `workspace`."""
    with create_client(pinflow, workspace) as client:
        yield client


@pytest.fixture
def caller(workspace: NewWorkspace) -> Caller:
    return Caller(workspace, uuid4().hex)


def read_memory(pinflow: Deployment) -> dict[str, int]:
    """Returns the resident bytes of each process."""
    return {
        name: int(psutil.Process(program.process.pid).memory_info().rss)
        for name, program in pinflow.programs.items()
    }


@pytest.fixture(scope="package")
def warm(pinflow: Deployment, client: httpx.Client) -> dict[str, int]:
    """The memory of each process after it has handled some requests of each kind."""
    for _ in range(20):
        client.get("/v1/pins")
        client.get("/v1/pins/imports")
        client.post("/v1/pins/imports/json", content=b"[]")
        client.get("/readyz")
    return read_memory(pinflow)


@contextmanager
def memory_bounded(pinflow: Deployment, warm: dict[str, int], max_growth: int) -> Iterator[None]:
    """Requires that no process has grown by `max_growth` bytes or more when the block ends."""
    yield
    growth = {name: size - warm[name] for name, size in read_memory(pinflow).items()}
    assert max(growth.values()) < max_growth, growth
