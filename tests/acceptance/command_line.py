"""Runs the command `pinflow` as a user, and writes the files that it imports."""

import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.administration import NewWorkspace
from tests.support.deployment import Deployment

PINFLOW = str(Path(sys.executable).with_name("pinflow"))
SECONDS = 120

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def build_variables(pinflow: Deployment, workspace: NewWorkspace) -> dict[str, str]:
    own = {"PINFLOW_BASE_URL": pinflow.base_url, "PINFLOW_API_KEY": workspace.api_key}
    return {**os.environ, **own}


def build_command(variables: dict[str, str], directory: Path) -> Command:
    """Returns a function that runs `pinflow` in a directory."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [PINFLOW, *arguments],
            env=variables,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


def build_rows(workspace: NewWorkspace, count: int, **fields: str) -> list[dict[str, str]]:
    account = workspace.accounts[0]
    return [
        {
            "account_id": str(account.id),
            "board_id": account.boards[0],
            "title": f"Lamp {number}",
            "image_url": f"https://cdn.example/{number}.jpg",
            "idempotency_key": f"lamp-{number}",
            "run_at": "",
            **fields,
        }
        for number in range(1, count + 1)
    ]


def write_csv(file: Path, rows: list[dict[str, str]], delimiter: str = ",") -> str:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    file.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    return str(file)


def read_csv(file: Path, delimiter: str = ",") -> list[dict[str, str]]:
    text = file.read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
