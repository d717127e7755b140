"""The commands that connect accounts, against the whole system and the simulator of Pinterest."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from deploy.administration import NewWorkspace
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from tests.acceptance.command_line import PINFLOW, SECONDS, Command, build_command, build_variables
from tests.acceptance.conftest import INTERNAL_TOKEN, new_workspace
from tests.support.deployment import Deployment
from tests.support.simulator import Simulator

ADDRESS = re.compile(r"^http://\S+/oauth/\S+$", re.MULTILINE)


@pytest.fixture
def workspace(connected: Deployment) -> NewWorkspace:
    return new_workspace(connected.database_url)


@pytest.fixture
def variables(
    connected: Deployment, workspace: NewWorkspace, simulator: Simulator
) -> dict[str, str]:
    """Returns the variables of a user's shell, and of an operator's."""
    return {
        **build_variables(connected, workspace),
        "PINFLOW_DATABASE_URL": connected.database_url,
        "PINFLOW_WORKSPACE_ID": str(workspace.id),
        "PINFLOW_ACCESS_URL": connected.service_url("access"),
        "PINFLOW_INTERNAL_TOKEN": INTERNAL_TOKEN,
        "PINFLOW_PINTEREST_SIMULATOR_URL": simulator.url,
    }


@pytest.fixture
def run(variables: dict[str, str], tmp_path: Path) -> Command:
    return build_command(variables, tmp_path)


@pytest.fixture
def read_account(variables: dict[str, str]) -> Callable[[UUID], dict[str, Any]]:
    """A function that reads an account as an operator does, in this process."""

    def read_account(account_id: UUID) -> dict[str, Any]:
        listed = CliRunner().invoke(app, ["accounts", "list", "--json"], env=variables)
        assert listed.exit_code == ExitCode.DONE, listed.stderr
        by_id = {account["id"]: account for account in json.loads(listed.stdout)}
        return dict(by_id[str(account_id)])

    return read_account


def test_a_workspace_with_connected_accounts_has_the_simulators_boards(
    run: Command, simulator: Simulator
) -> None:
    created = run(
        *("workspaces", "create", "Shop", "--accounts", "2", "--boards", "3"),
        *("--connected", "--json"),
    )
    assert created.returncode == ExitCode.DONE, created.stderr
    document = json.loads(created.stdout)
    users = [sorted(user["boards"]) for user in simulator.list_accounts()]
    for account in document["accounts"]:
        assert account["boards"] in users
        assert all(re.fullmatch(r"\d{18}", board) for board in account["boards"])
    assert {len(account["boards"]) for account in document["accounts"]} == {3}
    listed = run("accounts", "list", "--json", "--workspace", document["workspace_id"])
    assert {
        (account["connection"], account["mode"], account["health_status"])
        for account in json.loads(listed.stdout)
    } == {("connected", "simulated", "healthy")}


def test_an_account_is_connected_while_the_command_waits_for_the_browser(
    variables: dict[str, str],
    read_account: Callable[[UUID], dict[str, Any]],
    workspace: NewWorkspace,
    simulator: Simulator,
    tmp_path: Path,
) -> None:
    account_id = workspace.accounts[0].id
    before = read_account(account_id)
    assert (before["connection"], before["mode"]) == ("none", None)
    with subprocess.Popen(
        [PINFLOW, "accounts", "connect", "--account", str(account_id)],
        env=variables,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        address = next(line for line in command.stdout if ADDRESS.match(line)).strip()
        answer = simulator.http.get(simulator.consent(address, "rosa"))
        assert answer.status_code == 200, answer.text
        output, errors = command.communicate(timeout=SECONDS)
    assert command.returncode == ExitCode.DONE, errors
    assert f"Account {account_id} is connected to Pinterest." in output
    assert "Pinterest user: rosa. Boards: 5." in output
    assert read_account(account_id)["connection"] == "connected"


def test_an_account_is_connected_with_a_pasted_address_then_disconnected_and_connected_again(
    variables: dict[str, str],
    run: Command,
    read_account: Callable[[UUID], dict[str, Any]],
    workspace: NewWorkspace,
    simulator: Simulator,
    tmp_path: Path,
) -> None:
    account_id = workspace.accounts[0].id
    paste = ("--paste", "--account", str(account_id))
    output = connect_by_hand(variables, simulator, tmp_path, *paste)
    assert "Pinterest user: tom. Boards: 5." in output
    refreshed = run("accounts", "refresh", str(account_id))
    assert (refreshed.returncode, "healthy" in refreshed.stdout) == (0, True), refreshed.stderr
    assert run("accounts", "disconnect", str(account_id), "--yes").returncode == ExitCode.DONE
    disconnected = read_account(account_id)
    assert disconnected["connection"] == "disconnected"
    assert (disconnected["health_status"], disconnected["token_expires_at"]) == ("revoked", None)
    assert disconnected["revoked_at"] is not None
    command = run("accounts", "restore", str(account_id))
    assert command.returncode == ExitCode.DONE, command.stderr
    assert f"connect it with pinflow accounts connect --account {account_id}" in command.stdout
    restored = read_account(account_id)
    assert (restored["connection"], restored["revoked_at"]) == ("disconnected", None)
    assert restored["health_status"] == "reconnect_required"
    refused = run("accounts", "refresh", str(account_id))
    assert refused.returncode == ExitCode.REFUSED, refused.stdout
    output = connect_by_hand(variables, simulator, tmp_path, "--paste")  # tom has this account
    assert f"Account {account_id} is connected to Pinterest again." in output
    again = read_account(account_id)
    assert (again["connection"], again["revoked_at"]) == ("connected", None)


def connect_by_hand(
    variables: dict[str, str], simulator: Simulator, directory: Path, *options: str
) -> str:
    """Pastes the address to which tom's browser is sent. Returns the command's output."""
    with subprocess.Popen(
        [PINFLOW, "accounts", "connect", *options],
        env=variables,
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        address = next(line for line in command.stdout if ADDRESS.match(line)).strip()
        pasted = simulator.consent(address, "tom")
        output, errors = command.communicate(f"{pasted}\n", timeout=SECONDS)
    assert command.returncode == ExitCode.DONE, errors
    return output


def test_a_user_who_denies_the_access_ends_the_command_with_the_reason(
    variables: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [PINFLOW, "accounts", "connect"],
        env=variables,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        address = next(line for line in command.stdout if ADDRESS.match(line)).strip()
        simulator.http.get(simulator.consent(address, allow=False))
        _, errors = command.communicate(timeout=SECONDS)
    assert (command.returncode, "(oauth_denied)" in errors) == (ExitCode.REFUSED, True), errors


def test_the_account_of_the_apps_owner_is_connected_without_a_browser(
    run: Command, read_account: Callable[[UUID], dict[str, Any]], workspace: NewWorkspace
) -> None:
    account_id = workspace.accounts[1].id
    connected = run("accounts", "connect", "--app-owner", "--account", str(account_id))
    assert connected.returncode == ExitCode.DONE, connected.stderr
    assert f"Account {account_id} is connected to Pinterest." in connected.stdout
    assert read_account(account_id)["connection"] == "connected"


def test_a_wrong_internal_token_is_refused(variables: dict[str, str], tmp_path: Path) -> None:
    run = build_command({**variables, "PINFLOW_INTERNAL_TOKEN": "wrong"}, tmp_path)
    refused = run("accounts", "connect", "--app-owner")
    assert refused.returncode == ExitCode.REFUSED
    assert "PINFLOW_INTERNAL_TOKEN" in refused.stderr
