"""Pinflow as it is deployed: the gateway and three real processes, on a module's own topics and database."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.local import gateway
from deploy.local.ports import choose
from deploy.local.programs import service
from tests.infrastructure import with_role
from tests.ports import SERVICES_APART, SERVICES_FROM
from tests.processes import RunningProgram

SERVICES = ("ingest", "publisher", "status")


class Deployment:
    """`programs` are killed, frozen and started again by the tests."""

    def __init__(self, base_url: str, programs: Mapping[str, RunningProgram], ports: Mapping[str, int]) -> None:
        self.base_url = base_url
        self.programs = programs
        self.ports = ports

    def start(self) -> None:
        for program in self.programs.values():
            program.start()
        self.wait_until_ready()

    def restart(self, name: str) -> None:
        """Start again what was killed, as supervisor would."""
        self.programs[name].start()

    def wait_until_ready(self) -> None:
        self.programs["gateway"].wait_until(lambda: gateway.is_ready(self.base_url) is None)

    def service_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def logs(self) -> str:
        return "\n\n".join(f"== {name}\n{program.tail()}" for name, program in self.programs.items())

    def close(self) -> None:
        for program in self.programs.values():
            program.close()


@contextmanager
def deployed(directory: Path, *, kafka: str, database_url: str, topic_prefix: str, **variables: str) -> Iterator[Deployment]:
    """All of it running and ready; `variables` are further settings of the services and the gateway, without the prefix PINFLOW_."""
    ports = choose({name: SERVICES_FROM + SERVICES_APART * number for number, name in enumerate((*SERVICES, "gateway"))})
    base_url = f"http://127.0.0.1:{ports['gateway']}"
    shared = {
        "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PINFLOW_TOPIC_PREFIX": topic_prefix,
        "PINFLOW_BASE_URL": base_url,
        "PINFLOW_INGEST_URL": f"http://127.0.0.1:{ports['ingest']}",
        "PINFLOW_PUBLISHER_URL": f"http://127.0.0.1:{ports['publisher']}",
        **{f"PINFLOW_{name.upper()}": value for name, value in variables.items()},
    }
    programs = [
        service(name, {**shared, "PINFLOW_DATABASE_URL": with_role(database_url, f"pinflow_{name}"), "PINFLOW_PORT": str(ports[name])})
        for name in SERVICES
    ]
    programs.append(gateway.gateway(ports["gateway"], ports, directory, variables))
    deployment = Deployment(base_url, {program.name: RunningProgram(program, directory) for program in programs}, ports)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.close()


def job_of(client: httpx.Client, job_id: str, *, wait: int = 30) -> dict[str, Any]:
    """The job, once it has ended or `wait` seconds have passed."""
    answer = client.get(f"/v1/pins/imports/{job_id}", headers={"Prefer": f"wait={wait}"})
    answer.raise_for_status()
    return dict(answer.json())


def answers(url: str) -> bool:
    """Whether a service's process takes requests; not whether all it needs is there."""
    try:
        return httpx.get(f"{url}/healthz", timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False
