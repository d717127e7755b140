"""docs/reference/settings.md has every variable. test_generated.py compares it with the code."""

import re

import pytest

from deploy.generate import settings
from deploy.generate.settings import GROUPS, Group, list_own_fields, read_docstrings
from deploy.local.layout import CHECKOUT
from shared.runtime.settings import ServiceSettings

TEXT = settings.build_page()
FILES_WITH_VARIABLES = (
    "deploy/gateway/Caddyfile",
    "docker-compose.yml",
    "deploy/docker/*.yml",
    "deploy/cli/*.py",
    "deploy/local/*.py",
)
"""Files with variables that are not fields of a service's settings."""


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title)
def test_every_setting_has_a_description(group: Group) -> None:
    assert set(list_own_fields(group.settings)) - read_docstrings(group.settings).keys() == set()


def test_every_setting_is_in_one_group() -> None:
    services = [group.settings for group in GROUPS if issubclass(group.settings, ServiceSettings)]
    declared = [name for group in GROUPS for name in list_own_fields(group.settings)]
    assert {name for settings in services for name in settings.model_fields} == set(declared)
    assert all(f"`PINFLOW_{name.upper()}`" in TEXT for name in declared)


def test_every_variable_of_the_gateway_the_containers_and_the_commands_is_documented() -> None:
    files = [file for pattern in FILES_WITH_VARIABLES for file in CHECKOUT.glob(pattern)]
    named = {
        name
        for file in files
        for name in re.findall(r"PINFLOW_[A-Z_]+[A-Z]\b", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert {name for name in named if f"`{name}`" not in TEXT} == set()


def test_no_default_of_a_secret_is_documented() -> None:
    secrets = [
        line
        for line in TEXT.splitlines()
        if line.startswith(("| `PINFLOW_DATABASE_URL`", "| `PINFLOW_KAFKA_SASL_PASSWORD`"))
    ]
    assert len(secrets) == 2
    assert all("@127.0.0.1" not in line and "**" not in line for line in secrets)


def test_bounds_and_defaults_are_documented() -> None:
    assert "| `PINFLOW_STOP_TIMEOUT_SECONDS` | number > 0, ≤ 300 | 15 |" in TEXT
    assert (
        "| `PINFLOW_IMPORT_BODY_LIMIT` | integer ≥ 1024, ≤ 5242880 (5 MiB) | 5242880 (5 MiB) |"
        in TEXT
    )
    assert "| `PINFLOW_LOG_FORMAT` | `json`, `console` | `json` |" in TEXT
