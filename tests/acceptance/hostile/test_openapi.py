"""schemathesis over the published document, through the gateway, with every check that it has: what
the document says is what is done.

A bounded run with a fixed seed; `make hostile` runs with more examples and seeds of its own.
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

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = int(os.environ.get("PINFLOW_HOSTILE_EXAMPLES", "8"))
SEED = os.environ.get("PINFLOW_HOSTILE_SEED", "4")
MISSED = "repeatedly returned 401"
"""What schemathesis warns of when it could not get in at all, and so tested nothing."""


def things(workspace: NewWorkspace, client: httpx.Client) -> dict[str, str]:
    """What there is to be named, as the hooks want it."""
    account = workspace.accounts[0]
    (pin,) = rows_for(
        workspace, 1, prefix="hostile", account_id=str(account.id), board_id=account.boards[0]
    )
    schedule = {**pin, "idempotency_key": "hostile-schedule", "run_at": "2031-05-01T09:00:00Z"}
    made = [
        client.post(path, json=asked)
        for path, asked in (("/v1/pins", pin), ("/v1/schedules", schedule))
    ]
    ids = [str(one.raise_for_status().json()["id"]) for one in made]
    key = client.get("/v1/api-keys").json()[0]["id"]
    named = {
        "ACCOUNT": account.id,
        "BOARD": account.boards[0],
        "KEY": key,
        "PIN": ids[0],
        "SCHEDULE": ids[1],
    }
    return {f"HOSTILE_{name}": str(value) for name, value in named.items()}


@pytest.mark.timeout(60 + EXAMPLES * 20)
def test_what_the_document_says_is_what_is_done(
    pinflow: Deployment, workspace: NewWorkspace, client: httpx.Client, tmp_path: Path
) -> None:
    names = {**things(workspace, client), "PYTHONPATH": str(ROOT)}
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
        "-c",
        "all",
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
    assert MISSED not in run.stdout, run.stdout
