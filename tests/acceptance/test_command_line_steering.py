"""A spreadsheet with mistakes is checked, imported, mended, undone and imported again."""

import json
import os
import pty
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.administration import NewWorkspace
from deploy.cli.exit_codes import ExitCode
from tests.acceptance.command_line import (
    PINFLOW,
    SECONDS,
    Command,
    build_command,
    build_rows,
    build_variables,
    read_csv,
    write_csv,
)
from tests.support.deployment import Deployment

LATER = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0).isoformat()


@pytest.fixture
def variables(pinflow: Deployment, workspace: NewWorkspace) -> dict[str, str]:
    return build_variables(pinflow, workspace)


@pytest.fixture
def run(variables: dict[str, str], tmp_path: Path) -> Command:
    return build_command(variables, tmp_path)


def run_json(run: Command, *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def read_newest_import(run: Command) -> str:
    return str(run_json(run, "imports", "list", "--limit", "1")[0]["id"])


def read_statuses(job: dict[str, Any]) -> list[str]:
    return [result["status"] for result in job["results"]]


def build_rows_with_mistakes(workspace: NewWorkspace) -> list[dict[str, str]]:
    """Builds 4 rows: one for now, one for later, and two that fail in different services."""
    rows = build_rows(workspace, 4)
    rows[1]["run_at"] = LATER
    rows[2]["title"] = ""
    rows[3]["board_id"] = "1034280089391227000"
    return rows


def test_a_spreadsheet_with_mistakes_is_checked_imported_mended_undone_and_imported_again(
    run: Command, client: httpx.Client, workspace: NewWorkspace, tmp_path: Path
) -> None:
    rows = build_rows_with_mistakes(workspace)
    write_csv(tmp_path / "autumn.csv", rows, ";")

    checked = run("check", "autumn.csv")
    assert checked.returncode == ExitCode.ROWS_FAILED, checked.stderr
    assert "4 rows: 1 would be published now and 1 later, 0 exist already, 2 would fail." in (
        checked.stdout
    )
    assert "validation_error" in checked.stdout
    assert "board_not_found" in checked.stdout
    assert client.get("/v1/pins/imports").json() == client.get("/v1/pins").json() == []

    imported = run("import", "autumn.csv", "--failed", "failed.csv")
    assert imported.returncode == ExitCode.ROWS_FAILED, imported.stderr
    assert "2 created, 0 existing, 2 failed" in imported.stdout
    assert "import it: pinflow import failed.csv" in imported.stderr
    first = read_newest_import(run)

    failed = read_csv(tmp_path / "failed.csv", ";")
    assert [(row["line"], row["error_code"]) for row in failed] == [
        ("4", "validation_error"),
        ("5", "board_not_found"),
    ]
    failed[0]["title"], failed[1]["board_id"] = "Lamp 3", rows[0]["board_id"]
    write_csv(tmp_path / "failed.csv", failed, ";")
    mended = run("import", "failed.csv", "--failed", "still-failed.csv")
    assert mended.returncode == ExitCode.DONE, mended.stdout
    assert "No row failed" in mended.stderr
    assert not (tmp_path / "still-failed.csv").exists()
    second = read_newest_import(run)
    before = {pin["id"] for pin in client.get("/v1/pins").json()}
    assert len(before) == 3

    plan = run("imports", "undo", first, "--dry-run")
    assert plan.returncode == ExitCode.DONE
    assert "1 pin deleted, 1 schedule canceled and deleted, 0 left" in plan.stdout
    assert {pin["id"] for pin in client.get("/v1/pins").json()} == before
    for job in (first, second):
        assert run("imports", "undo", job).returncode == ExitCode.REFUSED  # nobody can be asked
        assert run("imports", "undo", job, "--yes").returncode == ExitCode.DONE
        again = run("imports", "undo", job)
        assert again.returncode == ExitCode.DONE, again.stderr
        assert "was undone before" in again.stdout
    assert client.get("/v1/pins").json() == client.get("/v1/schedules").json() == []

    corrected = build_rows(workspace, 4)
    corrected[0]["title"] = "A corrected lamp"
    corrected[1]["run_at"] = LATER
    write_csv(tmp_path / "autumn.csv", corrected, ";")
    assert run("check", "autumn.csv").returncode == ExitCode.DONE
    job = run_json(run, "import", "autumn.csv")
    assert read_statuses(job) == ["created"] * 4
    after = {pin["id"]: pin["title"] for pin in client.get("/v1/pins").json()}
    assert "A corrected lamp" in after.values()
    assert before.isdisjoint(after)


@pytest.mark.parametrize("on_existing", ["report", "update"])
def test_the_check_of_a_long_file_equals_its_import(
    run: Command, workspace: NewWorkspace, tmp_path: Path, on_existing: str
) -> None:
    rows = build_rows(workspace, 1010)
    rows[3]["title"] = "Two\nlines"
    rows[4]["run_at"] = rows[5]["run_at"] = LATER
    rows[100]["title"] = ""
    rows[600] = {**rows[0]}
    rows[601] = {**rows[4], "title": "Another title"}
    rows[602] = {**rows[5], "run_at": ""}
    rows[603] = {**rows[100], "title": "The first one failed"}
    rows[604]["board_id"] = "nowhere"
    rows[1005] = {**rows[604], "board_id": rows[0]["board_id"]}
    rows[1006] = {**rows[603]}
    write_csv(tmp_path / "long.csv", rows)
    options = ("long.csv", "--on-existing", on_existing)
    checked = run_json(run, "check", *options)
    imported = run("import", *options, "--json", "--failed", "failed.csv")
    job = json.loads(imported.stdout)
    counts = ("total_rows", "created_rows", "existing_rows", "failed_rows")
    assert [checked[name] for name in counts] == [job[name] for name in counts]
    assert [checked[name] for name in counts] == [1010, 1004, 4, 2]
    # The command knows that a row differs from one in another import, but not what is stored
    job_results = [
        {**result, "differing_fields": None if number > 500 else result["differing_fields"]}
        for number, result in enumerate(job["results"], 1)
    ]
    for result in job_results:
        del result["job_id"]
    assert checked["results"] == job_results
    assert checked["warnings"] == job["warnings"]
    failed = read_csv(tmp_path / "failed.csv")
    assert [(row["idempotency_key"], row["line"]) for row in failed] == [
        ("lamp-101", "103"),
        ("lamp-605", "607"),
    ]
    assert [job["results"][index]["line"] for index in (100, 604)] == [103, 607]


def test_failed_rows_are_retried_with_corrections_and_followed(
    run: Command, workspace: NewWorkspace, tmp_path: Path
) -> None:
    rows = build_rows_with_mistakes(workspace)
    write_csv(tmp_path / "autumn.csv", rows)
    accepted = run("import", "autumn.csv", "--no-wait", "--json")
    assert accepted.returncode == ExitCode.DONE, accepted.stderr
    job = json.loads(accepted.stdout)["id"]  # a list may not have the import yet
    watched = run("imports", "watch", job)
    assert watched.returncode == ExitCode.ROWS_FAILED
    assert f"pinflow imports results {job} --failed failed.csv" in watched.stdout

    listed = run_json(run, "imports", "results", job, "--error-code", "board_not_found")
    assert [row["row_number"] for row in listed] == [4]
    listed = run_json(run, "imports", "results", job, "--status", "created", "--search", "LAMP-2")
    assert [row["row_number"] for row in listed] == [2]
    assert run("imports", "results", job, "--csv", "all.csv").returncode == ExitCode.DONE
    assert [row["status"] for row in read_csv(tmp_path / "all.csv")] == [
        *("created", "created", "failed", "failed")
    ]
    assert run("imports", "results", job, "--csv", "all.csv").returncode == ExitCode.REFUSED
    piped = run("imports", "results", job, "--failed", "-")
    assert piped.stdout.count("lamp-") == 2

    retried = run("imports", "retry", job, "--correct", "3:title=Mended = good")
    assert retried.returncode == ExitCode.ROWS_FAILED, retried.stderr
    child = read_newest_import(run)
    assert f"Import {child} with 2 rows was accepted." in retried.stdout
    again = run("imports", "retry", job, "--correct", "3:title=Mended = good")
    assert f"Import {child} with 2 rows was accepted before." in again.stdout
    board = f"2:board_id={rows[0]['board_id']}"
    assert run("imports", "retry", child, "--correct", board).returncode == ExitCode.DONE
    nothing = run("imports", "retry", read_newest_import(run))
    assert nothing.returncode == ExitCode.REFUSED
    assert "no_failed_rows" in nothing.stderr

    timeline = run("imports", "show", job, "--row", "1").stdout
    for event in ("accepted", "stored", "published", "settled"):
        assert event in timeline
    assert run("imports", "show", job, "--row", "5").returncode == ExitCode.REFUSED


def test_schedules_of_an_import_are_canceled_and_changed_ones_are_left(
    run: Command, client: httpx.Client, workspace: NewWorkspace, tmp_path: Path
) -> None:
    write_csv(tmp_path / "later.csv", build_rows(workspace, 3, run_at=LATER))
    job = run_json(run, "import", "later.csv")
    schedules = [result["schedule_id"] for result in job["results"]]
    client.patch(f"/v1/schedules/{schedules[2]}", json={"title": "Mine"}).raise_for_status()
    unchanged = run("imports", "cancel", job["id"])
    assert unchanged.returncode == ExitCode.DONE, unchanged.stderr
    assert run("imports", "cancel", job["id"], "--scheduled").returncode == ExitCode.REFUSED
    canceled = run("imports", "cancel", job["id"], "--scheduled", "--yes")
    assert canceled.returncode == ExitCode.PINS_LEFT
    assert "2 schedules were canceled, 1 left." in canceled.stdout
    assert schedules[2] in canceled.stdout

    again = run("import", "later.csv")
    assert again.returncode == ExitCode.ROWS_FAILED
    assert "--on-existing revive" in " ".join(again.stdout.split())
    revived = run("import", "later.csv", "--on-existing", "revive")
    assert revived.returncode == ExitCode.DONE, revived.stdout
    assert "2 created, 1 existing, 0 failed" in revived.stdout
    for row in (rows := build_rows(workspace, 3, run_at=LATER)):
        row["title"] = "The newest title"
    write_csv(tmp_path / "later.csv", rows)
    updated = run("import", "later.csv", "--on-existing", "update")
    assert "3 existing rows took the content of this import: rows 1-3." in updated.stdout
    titles = {item["payload"]["title"] for item in client.get("/v1/schedules").json()}
    assert "Mine" not in titles


@pytest.mark.parametrize(("answer", "pins"), [("n", 2), ("y", 0)])
def test_an_undo_asks_on_a_terminal(
    run: Command,
    client: httpx.Client,
    variables: dict[str, str],
    workspace: NewWorkspace,
    tmp_path: Path,
    answer: str,
    pins: int,
) -> None:
    write_csv(tmp_path / "now.csv", build_rows(workspace, 2))
    job = run_json(run, "import", "now.csv")
    controller, terminal = pty.openpty()
    try:
        os.write(controller, f"{answer}\n".encode())  # waits in the terminal until it is read
        undone = subprocess.run(
            [PINFLOW, "imports", "undo", job["id"]],
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
    assert undone.returncode == (ExitCode.REFUSED if pins else ExitCode.DONE), undone.stderr
    assert "2 pins deleted, 0 schedules canceled and deleted, 0 left. Undo it?" in undone.stderr
    assert len(client.get("/v1/pins").json()) == pins
