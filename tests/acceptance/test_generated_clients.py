"""Generates clients from the OpenAPI document as users would, and uses them on the real stack."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.administration import NewWorkspace
from deploy.generate.files import OPENAPI, ROOT
from deploy.local.layout import CHECKOUT
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment
from tests.tools.clients import software

pytestmark = pytest.mark.slow

PROGRAMS = CHECKOUT / "tests" / "tools" / "clients"
EXPECTED = {
    "status": "completed",
    "rows": ["created", "created", "created"],
    "imports": [True],
    "schedules": [True],
    "canceled": "canceled",
}


def run(command: Sequence[str | Path], directory: Path, **environment: str) -> str:
    """Runs a command and returns its output. Fails the test if the command fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def arguments(pinflow: Deployment, workspace: NewWorkspace, tmp_path: Path) -> list[str]:
    """The arguments of the programs: the address, a CSV file with three rows, and a schedule."""
    path = tmp_path / "campaign.csv"
    rows = rows_for(workspace, 3, prefix="generated")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (schedule,) = rows_for(workspace, 1, prefix="scheduled")
    schedule["run_at"] = "2031-05-01T09:00:00Z"
    return [pinflow.base_url, str(path), json.dumps(schedule)]


@pytest.mark.timeout(600)
def test_a_python_client_imports_lists_and_cancels(
    arguments: list[str], workspace: NewWorkspace, tmp_path: Path
) -> None:
    python = software.find_python()
    (tmp_path / "generator.yml").write_text("post_hooks: []\n")
    generator = [str(python), "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    run(
        [
            *generator,
            "--path",
            str(ROOT / OPENAPI),
            "--config",
            "generator.yml",
            "--meta",
            "none",
            "--output-path",
            "pinflow_client",
        ],
        tmp_path,
    )
    program = PROGRAMS / "use_client.py"
    check = ["mypy", "--strict", "--follow-imports=silent", "--config-file=", "--cache-dir=mypy"]
    run([sys.executable, "-m", *check, program], tmp_path, MYPYPATH=str(tmp_path))
    seen = run(
        [python, program, *arguments],
        tmp_path,
        PYTHONPATH=str(tmp_path),
        PINFLOW_API_KEY=workspace.api_key,
    )
    assert json.loads(seen) == EXPECTED


@pytest.mark.timeout(600)
def test_a_strict_typescript_client_imports_lists_and_cancels(
    arguments: list[str], workspace: NewWorkspace, tmp_path: Path
) -> None:
    node = software.find_node()
    (tmp_path / "node_modules").symlink_to(software.NODE_MODULES)
    for name in ("package.json", "tsconfig.json", "use_client.ts"):
        (tmp_path / name).write_bytes((PROGRAMS / name).read_bytes())
    generator = software.find_script("openapi-typescript", "bin/cli.js")
    run([node, generator, ROOT / OPENAPI, "-o", "pinflow.d.ts"], tmp_path)
    run([node, software.find_script("typescript", "bin/tsc"), "--strict"], tmp_path)
    seen = run(
        [node, "built/use_client.js", *arguments], tmp_path, PINFLOW_API_KEY=workspace.api_key
    )
    assert json.loads(seen) == EXPECTED
