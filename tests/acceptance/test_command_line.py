"""The command `pinflow` of a user, against the whole system."""

import json
import os
import pty
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.administration import NewWorkspace
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.cli.placeholder import PLACEHOLDER
from deploy.cli.template import EXAMPLE_ROWS
from tests.acceptance.command_line import (
    PINFLOW,
    SECONDS,
    Command,
    build_command,
    build_rows,
    build_variables,
    write_csv,
)
from tests.support.deployment import Deployment

FUTURE = "2031-05-01T09:00:00Z"


@pytest.fixture
def variables(pinflow: Deployment, workspace: NewWorkspace) -> dict[str, str]:
    return build_variables(pinflow, workspace)


@pytest.fixture
def run(variables: dict[str, str], tmp_path: Path) -> Command:
    return build_command(variables, tmp_path)


@pytest.fixture
def list_ids(variables: dict[str, str]) -> Callable[[str], list[str]]:
    """A function that lists with `pinflow`, in this process: a new one takes 0.5 s to start."""

    def list_ids(kind: str) -> list[str]:
        listed = CliRunner().invoke(app, [kind, "list", "--limit", "1000", "--json"], env=variables)
        return [item["id"] for item in json.loads(listed.stdout)]

    return list_ids


def test_a_template_publishes_nothing_until_its_rows_are_completed(
    run: Command, list_ids: Callable[[str], list[str]], tmp_path: Path
) -> None:
    written = run("template", "--output", "pins.csv", "--delimiter", ";")
    assert written.returncode == ExitCode.DONE, written.stderr
    unchanged = run("import", "pins.csv", "--json")
    assert unchanged.returncode == ExitCode.ROWS_FAILED
    job = json.loads(unchanged.stdout)
    assert job["failed_rows"] == EXAMPLE_ROWS
    assert {fault["field"] for row in job["results"] for fault in row["errors"]} == {"image_url"}
    assert list_ids("schedules") == list_ids("pins") == []
    file = tmp_path / "pins.csv"
    text = file.read_text("utf-8")
    file.write_text(text.replace(PLACEHOLDER, "https://cdn.example/1.jpg"), "utf-8", newline="")
    completed = run("import", "pins.csv")
    assert completed.returncode == ExitCode.DONE, completed.stdout
    assert f"0 now, {EXAMPLE_ROWS} scheduled" in completed.stdout
    assert list_ids("pins") == []
    ids = list_ids("schedules")
    assert len(ids) == EXAMPLE_ROWS
    canceled = run("schedules", "cancel", *ids, "--yes")
    assert canceled.returncode == ExitCode.DONE, canceled.stdout
    again = run("import", "pins.csv")
    assert again.returncode == ExitCode.ROWS_FAILED  # nothing will be published for them
    assert f"The existing rows are: {EXAMPLE_ROWS} canceled." in again.stdout


def test_a_long_file_is_imported_in_order_under_its_own_row_numbers(
    run: Command,
    list_ids: Callable[[str], list[str]],
    workspace: NewWorkspace,
    tmp_path: Path,
) -> None:
    rows = build_rows(workspace, 1100, run_at=FUTURE)
    rows[3]["title"] = "Two\nlines"
    rows[1049] |= {"idempotency_key": "lamp-1", "title": "The same key"}
    rows[1050]["title"] = ""
    file = write_csv(tmp_path / "long.csv", rows)
    imported = run("import", file, "--json")
    assert imported.returncode == ExitCode.ROWS_FAILED, imported.stderr
    job: dict[str, Any] = json.loads(imported.stdout)
    counts = [job[f"{name}_rows"] for name in ("total", "created", "existing", "failed")]
    assert counts == [1100, 1098, 1, 1]
    assert [(part["first_row"], part["last_row"]) for part in job["imports"]] == [
        (1, 500),
        (501, 1000),
        (1001, 1100),
    ]
    results = job["results"]
    assert [row["row_number"] for row in results] == list(range(1, 1101))
    assert [results[index]["line"] for index in (0, 3, 4, 1099)] == [2, 5, 7, 1102]
    assert (results[1049]["status"], results[1050]["status"]) == ("existing", "failed")
    assert results[1049]["differing_fields"] == [
        {"field": "title", "stored": "Lamp 1", "sent": "The same key"},
        {
            "field": "image_url",
            "stored": "https://cdn.example/1.jpg",
            "sent": "https://cdn.example/1050.jpg",
        },
    ]
    assert len(list_ids("imports")) == 3
    assert len(list_ids("schedules")) == 1000
    again = run("import", file)
    assert "3 imports: completed_with_errors. 1100 of 1100" in again.stdout
    assert "0 created, 1099 existing, 1 failed" in again.stdout
    assert "1051  1053" in again.stdout


@pytest.mark.parametrize(
    ("answer", "code", "created"),
    [
        ("y", ExitCode.DONE, 2),
        ("o", ExitCode.ROWS_FAILED, 1),
        ("n", ExitCode.REFUSED, 0),
    ],
)
def test_the_command_asks_on_a_terminal_before_it_publishes_rows_of_the_past(
    list_ids: Callable[[str], list[str]],
    variables: dict[str, str],
    workspace: NewWorkspace,
    tmp_path: Path,
    answer: str,
    code: ExitCode,
    created: int,
) -> None:
    rows = build_rows(workspace, 2)
    rows[0]["run_at"] = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    file = write_csv(tmp_path / "past.csv", rows)
    controller, terminal = pty.openpty()
    try:
        os.write(controller, f"{answer}\n".encode())  # waits in the terminal until it is read
        imported = subprocess.run(
            [PINFLOW, "import", file],
            env=variables,
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(controller)
    assert imported.returncode == code, imported.stderr
    assert "1 of 2 rows has a run_at that has passed: row 1." in imported.stderr
    assert len(list_ids("pins")) == created


def test_a_time_zone_and_an_account_stand_for_what_the_file_lacks(
    run: Command, workspace: NewWorkspace, tmp_path: Path
) -> None:
    rows = build_rows(workspace, 2, run_at="2031-05-01 09:00")
    for row in rows:
        del row["account_id"]
    file = write_csv(tmp_path / "local.csv", rows)
    imported = run(
        "import", file, "--timezone", "Europe/Berlin", "--account", str(workspace.accounts[0].id)
    )
    assert imported.returncode == ExitCode.DONE, imported.stdout + imported.stderr
    assert "2031-05-01 07:00:00Z" in run("schedules", "list").stdout
    assert run("import", file).returncode == ExitCode.REFUSED


def test_without_an_app_at_pinterest_no_account_can_be_connected(run: Command) -> None:
    refused = run("accounts", "connect", "--no-browser")
    assert refused.returncode == ExitCode.REFUSED
    assert "(pinterest_off)" in refused.stderr
