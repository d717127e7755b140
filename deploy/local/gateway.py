"""Runs Caddy in front of the services, with the Caddyfile that docker-compose.yml uses too."""

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
    """Describes Caddy's process.

    `upstreams` has the services' ports on this machine, by name. `variables` are further variables
    of the Caddyfile, without the prefix and in lower case: gateway_read_header="10s".
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
    """Returns what /readyz says, or None if all services, Kafka and Postgres work."""
    try:
        answer = httpx.get(f"{base_url}/readyz", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return f"no answer from the gateway: {error}"
    return None if answer.is_success and answer.json()["status"] == "ok" else answer.text
