"""Runs schemathesis with all its checks on the published OpenAPI document, through the gateway.

The run is short and has a fixed seed. `make hostile` runs more examples with other seeds.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deploy.administration import NewWorkspace
from deploy.generate.files import OPENAPI, ROOT
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment

pytestmark = pytest.mark.slow

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = int(os.environ.get("PINFLOW_HOSTILE_EXAMPLES", "8"))
SEED = os.environ.get("PINFLOW_HOSTILE_SEED", "4")
UNAUTHORIZED_WARNING = "repeatedly returned 401"
"""schemathesis's warning that its key was refused, so it tested nothing."""


def create_resources(workspace: NewWorkspace, client: httpx.Client) -> dict[str, str]:
    """Creates a pin and a schedule, and returns the variables that the hooks read."""
    account = workspace.accounts[0]
    (pin,) = rows_for(
        workspace, 1, prefix="hostile", account_id=str(account.id), board_id=account.boards[0]
    )
    schedule = {**pin, "idempotency_key": "hostile-schedule", "run_at": "2031-05-01T09:00:00Z"}
    answers = [
        client.post(path, json=document)
        for path, document in (("/v1/pins", pin), ("/v1/schedules", schedule))
    ]
    ids = [str(answer.raise_for_status().json()["id"]) for answer in answers]
    key = client.get("/v1/api-keys").json()[0]["id"]
    named = {
        "ACCOUNT": account.id,
        "BOARD": account.boards[0],
        "KEY": key,
        "PIN": ids[0],
        "SCHEDULE": ids[1],
    }
    return {f"HOSTILE_{name}": str(value) for name, value in named.items()}


@pytest.mark.timeout(300 + EXAMPLES * 20)
def test_the_api_matches_its_openapi_document(
    pinflow: Deployment, workspace: NewWorkspace, client: httpx.Client, tmp_path: Path
) -> None:
    names = {**create_resources(workspace, client), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(CONFIGURATION),
        "--no-color",
        "run",
        str(ROOT / OPENAPI),
    ]
    options = [
        "--url",
        pinflow.base_url,
        "-H",
        f"X-API-Key: {workspace.api_key}",
        "-n",
        str(EXAMPLES),
        "--seed",
        SEED,
    ]
    run = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    assert UNAUTHORIZED_WARNING not in run.stdout, run.stdout
