"""Holds the simulator against Pinterest's official API description, where that is at hand.

This file is the only one whose tests may be skipped: the description is not part of the project.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.generate.files import ROOT
from tests.integration.simulator.videos import create_video
from tests.support.pinterest_description import PinterestDescription, require_description
from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = int(os.environ.get("PINFLOW_HOSTILE_EXAMPLES", "8"))
SEED = os.environ.get("PINFLOW_HOSTILE_SEED", "4")
SCOPES = (
    "boards:read,boards:read_secret,boards:write,boards:write_secret,pins:read,pins:read_secret,"
    "pins:write,pins:write_secret,user_accounts:read"
)
FORM = "application/x-www-form-urlencoded"
IMAGE_SOURCE = {"source_type": "image_url", "url": "https://pictures.example/lamp.jpg"}


@pytest.fixture
def description() -> Path:
    return require_description()


def create_resources(simulator: Simulator) -> dict[str, str]:
    """Creates what the hooks name, and returns their variables."""
    tokens = simulator.get_token(scopes=SCOPES)
    token = tokens["access_token"]
    simulator.call("GET", "/user_account", token).raise_for_status()
    board = simulator.list_accounts()[0]["boards"][0]
    section = simulator.call("POST", f"/boards/{board}/sections", token, json={"name": "Lamps"})
    body = {"board_id": board, "media_source": IMAGE_SOURCE}
    pin = simulator.call("POST", "/pins", token, json=body)
    named = {
        "URL": simulator.url,
        "TOKEN": token,
        "REFRESH_TOKEN": tokens["refresh_token"],
        "BOARD": board,
        "SECTION": section.json()["id"],
        "PIN": pin.json()["id"],
        "VIDEO": create_video(simulator, token),
    }
    return {f"CONTRACT_{name}": value for name, value in named.items()}


@pytest.mark.timeout(60 + EXAMPLES * 20)
def test_the_simulator_keeps_to_the_official_description(
    simulator: Simulator, description: Path, tmp_path: Path
) -> None:
    """Each operation must also have succeeded, so that more than refusals were compared."""
    simulator.change_settings(buckets=False, pin_updates=True)
    variables = {**create_resources(simulator), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)]
    options = [
        "--url",
        f"{simulator.url}/v5",
        "-n",
        str(EXAMPLES),
        "--seed",
        SEED,
    ]
    run = subprocess.run(
        [*command, "--no-color", "run", str(description), *options],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    requests = simulator.control("GET", "requests")
    succeeded = {request["operation"] for request in requests if request["status"] < 300}
    operations = PinterestDescription.read(description).operation_names
    assert succeeded >= operations, operations - succeeded


GOOD_REQUESTS: list[dict[str, Any]] = [
    {"method": "GET", "path": "/v5/boards", "query": {"page_size": "250", "bookmark": "x"}},
    {"method": "PATCH", "path": "/v5/boards/12", "body": {"description": None}},
    {"method": "DELETE", "path": "/v5/boards/12"},
    {
        "method": "POST",
        "path": "/v5/pins",
        "body": {"board_id": "12", "media_source": IMAGE_SOURCE, "link": None},
    },
    {
        "method": "POST",
        "path": "/v5/oauth/token",
        "content_type": FORM,
        "body": {"grant_type": "refresh_token", "refresh_token": "x", "continuous_refresh": "true"},
    },
]
BAD_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"method": "GET", "path": "/v5/users"}, "the description has no such operation"),
    ({"method": "PUT", "path": "/v5/boards/12"}, "the description has no such operation"),
    ({"method": "GET", "path": "/v5/boards/x"}, "'x' does not match"),
    ({"method": "GET", "path": "/v5/boards", "query": {"page_size": "251"}}, "251 is greater"),
    ({"method": "GET", "path": "/v5/boards", "query": {"limit": "5"}}, "unknown parameter limit"),
    ({"method": "POST", "path": "/v5/boards", "body": {}}, "'name' is a required property"),
    ({"method": "POST", "path": "/v5/boards"}, "a body is missing"),
    (
        {"method": "POST", "path": "/v5/boards", "body": {"name": "A", "color": "red"}},
        "unknown field color",
    ),
    (
        {"method": "POST", "path": "/v5/pins", "body": {"media_source": {"source_type": "file"}}},
        "is not valid under any of the given schemas",
    ),
    (
        {
            "method": "POST",
            "path": "/v5/oauth/token",
            "content_type": FORM,
            "body": {"grant_type": "authorization_code", "code": "x"},
        },
        "'redirect_uri' is a required property",
    ),
    (
        {
            "method": "POST",
            "path": "/v5/oauth/token",
            "body": {"grant_type": "client_credentials", "scope": "boards:read"},
        },
        "the content type application/json",
    ),
]


def complete(request: dict[str, Any]) -> dict[str, Any]:
    body = request.get("body")
    content_type = None if body is None else "application/json"
    return {"query": {}, "body": body, "content_type": content_type, **request}


def test_requests_that_keep_to_the_description_pass_the_check(description: Path) -> None:
    checker = PinterestDescription.read(description)
    assert checker.find_violations(map(complete, GOOD_REQUESTS)) == []


@pytest.mark.parametrize(("request_", "violation"), BAD_REQUESTS)
def test_a_request_that_breaks_the_description_is_found(
    description: Path, request_: dict[str, Any], violation: str
) -> None:
    checker = PinterestDescription.read(description)
    assert violation in " ".join(checker.find_violations([complete(request_)]))
