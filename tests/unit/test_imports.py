"""Processes import only what they need.

An import costs memory and time: most of the second that a service takes to start is imports.
"""

import json
import subprocess
import sys

import pytest

from deploy.local.layout import CHECKOUT
from deploy.services import SERVICES

pytestmark = pytest.mark.processes

TOOLS = {"deploy", "alembic", "mako", "typer", "httpx", "requests", "hypothesis", "pytest"}
SERVERS = {"fastapi", "faststream", "uvicorn"}
CLIENTS = {"sqlalchemy", "psycopg", "aiokafka"}

IMPORTS = """
import gc, importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps({"modules": list(sys.modules), "collects": gc.isenabled()}))
"""


def import_in_new_process(module: str) -> tuple[set[str], bool]:
    """Returns the packages that a module imports, and whether garbage collection is then on."""
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTS, module],
        cwd=CHECKOUT,
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(ended.stdout)
    return {name.partition(".")[0] for name in found["modules"]}, found["collects"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_tool_and_keeps_the_collector_off_until_it_serves(
    service: str,
) -> None:
    packages, collects = import_in_new_process(f"services.{service}.__main__")
    assert packages >= SERVERS | CLIENTS
    assert not packages & TOOLS
    assert not collects


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        ("deploy.cli.main", SERVERS | CLIENTS | {"alembic"}),  # pinflow import, and every --help
        ("deploy.cli.backend", SERVERS | {"alembic", "aiokafka"}),  # pinflow workspaces, keys, …
        ("shared.kafka.admin", SERVERS | {"alembic"}),  # pinflow topics
        ("deploy.migrations.runner", SERVERS),  # pinflow migrate
    ],
)
def test_a_command_imports_what_it_needs(module: str, left_out: set[str]) -> None:
    packages, _ = import_in_new_process(module)
    assert not packages & left_out
