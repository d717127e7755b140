"""Runs Pinflow as it is deployed: the gateway and a real process for each service.

It uses the topics and the database of the test module.
"""

import math
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from deploy.local import gateway
from deploy.local.ports import choose
from deploy.local.programs import Program, service_program
from deploy.services import (
    DEFAULT_SERVICE,
    SERVICES,
    WORKERS,
    ServiceDescription,
    WorkerDescription,
)
from shared.contract.errors import ErrorCode
from tests.support.infrastructure import with_role
from tests.support.ports import FIRST_SERVICE_PORT, PORTS_PER_SERVICE
from tests.support.processes import RunningProgram

MAX_REQUEST_SECONDS = 5
"""Maximum wait of one request for a job. The gateway of some tests cuts longer ones."""


class Deployment:
    """A running Pinflow, whose programs a test may kill, pause and start again.

    The first replica of a service has its name, such as ingest. Further replicas are ingest-1,
    ingest-2 and so on.
    """

    def __init__(
        self,
        base_url: str,
        programs: Mapping[str, RunningProgram],
        ports: Mapping[str, int],
        *,
        database_url: str,
        topic_prefix: str,
    ) -> None:
        self.base_url = base_url
        self.database_url = database_url
        """The URL of the database's owner."""
        self.topic_prefix = topic_prefix
        self.programs = programs
        self.ports = ports

    def start(self) -> None:
        for program in self.programs.values():
            program.start()
        self.wait_until_ready()

    def restart(self, name: str) -> None:
        """Starts a killed program again, as supervisor would."""
        self.programs[name].start()

    def wait_until_ready(self) -> None:
        """Waits until every running program is ready."""
        self.programs["gateway"].wait_until(lambda: gateway.find_problem(self.base_url) is None)
        for name, program in self.programs.items():
            if name != "gateway" and program.is_alive:
                program.wait_until(partial(is_ready, self.service_url(name)))

    def replica_names(self, service: str) -> list[str]:
        """Returns the names of the service's replicas, in the order of their numbers."""
        return [name for name in self.programs if name.partition("-")[0] == service]

    def service_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def logs(self) -> str:
        return "\n\n".join(
            f"== {name}\n{program.tail()}" for name, program in self.programs.items()
        )

    def close(self) -> None:
        for program in self.programs.values():
            program.close()


@contextmanager
def deployed(
    directory: Path,
    replicas: int | Mapping[str, int] = 1,
    /,
    *,
    kafka: str,
    database_url: str,
    topic_prefix: str,
    **variables: str,
) -> Iterator[Deployment]:
    """Starts Pinflow with `replicas` of each service, waits until it is ready and yields it.

    `replicas` may name only some services: others then have one. The workers run too, unless the
    setting pinterest_mode is off.
    `variables` are further settings of the services and the gateway. Their names are in lower case
    and lack the prefix PINFLOW_.
    """
    described: dict[str, ServiceDescription | WorkerDescription] = {**SERVICES}
    if variables.get("pinterest_mode", "off") != "off":
        described |= WORKERS
    names = tuple(described)
    counts = {
        name: replicas if isinstance(replicas, int) else replicas.get(name, 1) for name in names
    }
    port_requests = {
        replica_name(name, replica): _first_port(name) + replica
        for name in names
        for replica in range(counts[name])
    }
    ports = choose({**port_requests, "gateway": _first_port("gateway")})
    addresses = {
        name: [f"127.0.0.1:{ports[replica_name(name, number)]}" for number in range(counts[name])]
        for name in names
    }
    base_url = f"http://127.0.0.1:{ports['gateway']}"
    shared = {
        "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PINFLOW_TOPIC_PREFIX": topic_prefix,
        "PINFLOW_BASE_URL": base_url,
        "PINFLOW_INTERNAL_TOKEN": secrets.token_urlsafe(18),
        **{
            described[name].url_variable: ",".join(
                f"http://{address}" for address in addresses[name]
            )
            for name in names
            if name != DEFAULT_SERVICE.name
        },
        **{f"PINFLOW_{name.upper()}": value for name, value in variables.items()},
    }
    programs: list[Program] = []
    for name in names:
        own = {
            "PINFLOW_DATABASE_URL": with_role(database_url, described[name].role),
            "PINFLOW_PORT": str(ports[name]),
        }
        first = service_program(name, {**shared, **own})
        programs += [
            first,
            *(
                program_for_replica(first, replica, ports[replica_name(name, replica)])
                for replica in range(1, counts[name])
            ),
        ]
    upstreams = {f"{name}_upstream": " ".join(addresses[name]) for name in SERVICES}
    programs.append(
        gateway.gateway_program(ports["gateway"], ports, directory, {**variables, **upstreams})
    )
    deployment = Deployment(
        base_url,
        {program.name: RunningProgram(program, directory) for program in programs},
        ports,
        database_url=database_url,
        topic_prefix=topic_prefix,
    )
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.close()


def replica_name(service: str, replica: int) -> str:
    return f"{service}-{replica}" if replica else service


def program_for_replica(first: Program, replica: int, port: int) -> Program:
    """Builds the program of a further replica of the service."""
    own = {"PINFLOW_REPLICA": str(replica), "PINFLOW_PORT": str(port)}
    return replace(
        first, name=replica_name(first.name, replica), environment={**first.environment, **own}
    )


def _first_port(name: str) -> int:
    return FIRST_SERVICE_PORT + PORTS_PER_SERVICE * (*SERVICES, "gateway", *WORKERS).index(name)


def wait_for_job(client: httpx.Client, job_id: str, *, wait: int = 60) -> dict[str, Any]:
    """Returns the job after it has ended or `wait` seconds have passed.

    Asks again after a 503 `status_behind`: on a busy machine the status service may need more than
    the 2 s that its endpoint waits for a new job.
    """
    deadline = time.monotonic() + wait
    while True:
        left = max(1, min(MAX_REQUEST_SECONDS, math.ceil(deadline - time.monotonic())))
        answer = client.get(f"/v1/pins/imports/{job_id}", headers={"Prefer": f"wait={left}"})
        is_over = time.monotonic() > deadline
        if is_status_behind(answer) and not is_over:
            continue
        job = dict(answer.raise_for_status().json())
        if job["completed_at"] is not None or is_over:
            return job


def is_status_behind(answer: httpx.Response) -> bool:
    """Returns whether the status service has not read the job's import yet."""
    return (
        answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        and answer.json()["detail"]["code"] == ErrorCode.STATUS_BEHIND
    )


def is_ready(url: str) -> bool:
    """Returns whether the service reports that it is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def is_live(url: str) -> bool:
    """Returns whether the service's process answers requests. It may not be ready yet."""
    try:
        return httpx.get(f"{url}/healthz", timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False
