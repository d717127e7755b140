"""Checks the format of the gateway's files: Caddy warns at its start about any other."""

import subprocess

import pytest

from deploy.local.gateway import DIRECTORY
from deploy.local.software import find_caddy


@pytest.mark.parametrize("name", ["Caddyfile", "routes.caddyfile"])
def test_a_file_of_the_gateway_has_the_format_that_caddy_expects(name: str) -> None:
    text = (DIRECTORY / name).read_text(encoding="utf-8")
    command = [str(find_caddy()), "fmt", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.stdout == text
