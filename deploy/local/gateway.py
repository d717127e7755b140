"""Runs Caddy as the gateway, with the same Caddyfile as docker-compose.yml."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import httpx

from deploy.local.layout import CHECKOUT
from deploy.local.programs import Program
from deploy.local.software import find_caddy
from deploy.services import SERVICES

DIRECTORY = CHECKOUT / "deploy" / "gateway"


def gateway_program(
    port: int,
    upstreams: Mapping[str, int],
    home: Path,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Program:
    """Returns the program that runs Caddy.

    `upstreams` has the port of each service on this machine, by the service's name. `variables` are
    further variables of the Caddyfile, in lower case and without PINFLOW_, for instance
    gateway_read_header="10s".
    """
    environment = {
        "PINFLOW_GATEWAY_PORT": str(port),
        "PINFLOW_GATEWAY_BIND": "127.0.0.1",
        "PINFLOW_GATEWAY_DOCUMENTS": str(DIRECTORY),
        **{
            service.upstream_variable: f"127.0.0.1:{upstreams[name]}"
            for name, service in SERVICES.items()
        },
        **{f"PINFLOW_{name.upper()}": value for name, value in variables.items()},
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    command = (
        find_caddy(),
        "run",
        "--config",
        str(DIRECTORY / "Caddyfile"),
        "--adapter",
        "caddyfile",
    )
    return Program("gateway", command, environment, start_order=3)


def find_problem(base_url: str) -> str | None:
    """Returns the answer of /readyz, or None if all services, Kafka and Postgres work."""
    try:
        answer = httpx.get(f"{base_url}/readyz", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return f"no answer from the gateway: {error}"
    return None if answer.is_success and answer.json()["status"] == "ok" else answer.text
