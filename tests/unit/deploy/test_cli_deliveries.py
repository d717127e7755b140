"""`pinflow deliveries`: the pins that wait for their delivery, by account."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.connecting import ACCOUNTS
from deploy.cli.deliveries import DELIVERIES
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from services.publisher.backlog.schemas import DeliveryResponse
from tests.support.pinflow_server import PinflowServer, running_server


@pytest.fixture
def server() -> Iterator[PinflowServer]:
    with running_server() as server:
        yield server


def run(server: PinflowServer, *arguments: str) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, list(arguments), env=variables)


def build_account(**fields: Any) -> dict[str, Any]:
    return {
        "account_id": str(uuid4()),
        "queued_count": 480,
        "publishing_count": 1,
        "oldest_queued_at": "2026-11-25T09:00:00Z",
        "pause": None,
        "estimated_end": "2026-11-27T09:00:00Z",
        **fields,
    }


def build_name(account: dict[str, Any], name: str | None, username: str) -> dict[str, Any]:
    return {"id": account["account_id"], "display_name": name, "username": username}


def test_the_backlog_of_each_account_is_shown_with_its_end(server: PinflowServer) -> None:
    account = build_account()
    DeliveryResponse.model_validate(account)
    server.documents[DELIVERIES] = [account]
    server.documents[ACCOUNTS] = [build_name(account, "Lamps", "lamp_shop")]
    result = run(server, "deliveries")
    assert result.exit_code == ExitCode.DONE, result.output
    line = result.stdout.splitlines()[1]
    assert line.split()[:4] == [account["account_id"], "Lamps", "480", "1"]
    assert "2026-11-25 09:00:00Z" in line
    assert "2026-11-27 09:00:00Z" in line


def test_an_account_without_a_name_of_its_own_has_its_user_name(server: PinflowServer) -> None:
    known, unknown = build_account(), build_account()
    server.documents[DELIVERIES] = [known, unknown]
    server.documents[ACCOUNTS] = [build_name(known, None, "lamp_shop")]
    result = run(server, "deliveries")
    assert result.exit_code == ExitCode.DONE, result.output
    first, second = (line.split() for line in result.stdout.splitlines()[1:])
    assert first[:3] == [known["account_id"], "lamp_shop", "480"]
    assert second[0] == unknown["account_id"]
    assert "480" in second


def test_a_paused_account_is_exit_code_1_with_the_reason(server: PinflowServer) -> None:
    pause = {"code": "token_revoked", "message": "Connect the account again.", "until": None}
    paused = build_account(pause=pause, estimated_end=None)
    DeliveryResponse.model_validate(paused)
    server.documents[DELIVERIES] = [build_account(), paused]
    server.documents[ACCOUNTS] = []
    result = run(server, "deliveries")
    assert result.exit_code == ExitCode.ACCOUNTS_PAUSED
    assert "token_revoked" in result.stdout
    assert "Connect the account again." in result.stdout
    assert result.stdout.splitlines()[-1].endswith("pinflow accounts connect --account ID")
    shown = run(server, "deliveries", "--account", paused["account_id"], "--json")
    assert json.loads(shown.stdout) == [paused]


def test_without_accounts_the_command_says_how_to_connect_one(server: PinflowServer) -> None:
    server.documents[DELIVERIES] = []
    result = run(server, "deliveries")
    assert result.exit_code == ExitCode.DONE
    assert "pinflow accounts connect" in result.stdout


def test_an_unknown_account_is_an_error(server: PinflowServer) -> None:
    connected = build_account()
    plain = build_name(build_account(), "Plain", "plain")
    server.documents[DELIVERIES] = [connected]
    server.documents[ACCOUNTS] = [build_name(connected, "Lamps", "lamp_shop"), plain]
    unknown = str(uuid4())
    for form in ((), ("--json",)):
        result = run(server, "deliveries", "--account", unknown, *form)
        assert result.exit_code == ExitCode.REFUSED
        assert f"sees no account {unknown}" in result.stderr
        assert result.stdout == ""
    result = run(server, "deliveries", "--account", plain["id"])
    assert result.exit_code == ExitCode.DONE
    assert f"{plain['id']} was never connected" in result.stdout
