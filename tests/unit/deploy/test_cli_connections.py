"""The commands that connect accounts. Fake transports act as Pinflow and as the simulator."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import typer
from cryptography.fernet import Fernet
from typer.testing import CliRunner, Result

from deploy.cli import connecting, connections
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.cli.simulator import SimulatorClient

ACCOUNT = "0d1f2c3b-4a59-4687-9c1d-2e3f4a5b6c7d"
WORKSPACE = "4b0c6c1e-8c35-4f5d-9f3e-0a1b2c3d4e5f"
ATTEMPT = "11111111-2222-4333-8444-555555555555"
URL = "https://www.pinterest.com/oauth/?client_id=1&state=s"
CALLBACK = "https://pins.example/v1/pinterest/oauth/callback"

Handler = Callable[[httpx.Request], httpx.Response]


class Pinflow:
    """Answers requests from a table of documents by path, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.attempts: Iterator[dict[str, Any]] = iter(())
        self.documents: dict[str, Any] = {
            "/v1/pinterest/oauth/start": {
                "authorization_url": URL,
                "attempt_id": ATTEMPT,
                "expires_at": (datetime.now(UTC) + timedelta(minutes=15)).isoformat(),
            },
            "/v1/pinterest/oauth/callback": {"status": "connected", "account_id": ACCOUNT},
            "/v1/pinterest/accounts": [
                {"id": ACCOUNT, "username": "rosa\x1b[2J", "pinterest_user_id": ACCOUNT}
            ],
            "/v1/pinterest/boards": [{"id": "1"}, {"id": "2"}],
            f"/v1/pinterest/accounts/{ACCOUNT}/refresh": {
                "id": ACCOUNT,
                "health_status": "healthy",
            },
        }
        self.is_replay = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.url.path.startswith("/v1/pinterest/oauth/attempts/"):
            return httpx.Response(200, json=next(self.attempts))
        headers = {"Idempotent-Replayed": "true"} if self.is_replay else {}
        return httpx.Response(200, json=self.documents[request.url.path], headers=headers)

    @property
    def calls(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


@pytest.fixture
def pinflow(monkeypatch: pytest.MonkeyPatch) -> Pinflow:
    pinflow = Pinflow()
    build = httpx.Client

    def client(**options: Any) -> httpx.Client:
        return build(**{**options, "transport": httpx.MockTransport(pinflow.answer)})

    monkeypatch.setattr(httpx, "Client", client)
    monkeypatch.setattr(connecting, "POLL_SECONDS", 0)
    return pinflow


def run(*arguments: str, stdin: str | None = None) -> Result:
    env = {"PINFLOW_BASE_URL": "https://pins.example", "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, ["accounts", *arguments], input=stdin, env=env)


def start_of(pinflow: Pinflow) -> httpx.Request:
    (start,) = [each for each in pinflow.requests if each.url.path.endswith("/oauth/start")]
    return start


def test_connect_prints_the_address_and_waits_until_the_access_is_allowed(
    pinflow: Pinflow,
) -> None:
    pinflow.attempts = iter(
        [
            {"status": "pending"},
            {"status": "pending"},
            {"status": "connected", "account_id": ACCOUNT},
        ]
    )
    connected = run("connect", "--account", ACCOUNT)
    assert connected.exit_code == ExitCode.DONE, connected.output
    assert URL in connected.stdout.splitlines()
    assert connected.stderr.startswith("Waiting until the access is allowed, until 20")
    assert connected.stderr.endswith("Z at the latest. Ctrl+C stops waiting.\n")
    assert f"Account {ACCOUNT} is connected to Pinterest." in connected.stdout
    assert "rosa\\u001b[2J. Boards: 2." in connected.stdout
    assert start_of(pinflow).url.params["account_id"] == ACCOUNT
    assert pinflow.calls.count(f"GET /v1/pinterest/oauth/attempts/{ATTEMPT}") == 3


def test_connect_says_that_the_account_was_connected_before(pinflow: Pinflow) -> None:
    pinflow.documents["/v1/pinterest/accounts"][0]["pinterest_user_id"] = "549755885175"
    pinflow.attempts = iter([{"status": "connected", "account_id": ACCOUNT}])
    connected = run("connect")
    assert f"Account {ACCOUNT} is connected to Pinterest again." in connected.stdout
    assert "Its deferred pins are sent within a minute." in connected.stdout


def test_connect_prints_only_the_account_as_json(pinflow: Pinflow) -> None:
    pinflow.attempts = iter([{"status": "connected", "account_id": ACCOUNT}])
    connected = run("connect", "--json")
    assert json.loads(connected.stdout)["id"] == ACCOUNT
    assert URL in connected.stderr
    assert "account_id" not in start_of(pinflow).url.params


@pytest.mark.parametrize(
    ("attempt", "code", "message"),
    [
        (
            {"status": "failed", "code": "account_mismatch", "message": "Another\x07 user."},
            ExitCode.REFUSED,
            "Another\\u0007 user. (account_mismatch)\nTo start again, run the command again.",
        ),
        ({"status": "expired"}, ExitCode.UNAVAILABLE, "Nobody allowed the access in time"),
    ],
)
def test_connect_says_why_nothing_was_connected(
    pinflow: Pinflow, attempt: dict[str, Any], code: ExitCode, message: str
) -> None:
    pinflow.attempts = iter([attempt])
    connected = run("connect")
    assert (connected.exit_code, message in connected.stderr) == (code, True), connected.stderr


def test_ctrl_c_stops_waiting_and_says_that_the_address_stays_valid(
    pinflow: Pinflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    pinflow.attempts = iter([{"status": "pending"}])
    monkeypatch.setattr("time.sleep", interrupt)
    stopped = run("connect")
    assert stopped.exit_code == ExitCode.UNAVAILABLE
    assert "The address stays valid until 20" in stopped.stderr


def test_connect_reads_the_address_of_a_browser_that_cant_reach_pinflow(pinflow: Pinflow) -> None:
    connected = run("connect", "--paste", stdin=f" {CALLBACK}?code=c%2F1&state=s&other=1 \n")
    assert connected.exit_code == ExitCode.DONE, connected.stderr
    (callback,) = [each for each in pinflow.requests if each.url.path.endswith("/callback")]
    assert dict(callback.url.params) == {"code": "c/1", "state": "s"}


NOT_A_CALLBACK = ["\n", CALLBACK, f"{CALLBACK}?state=s", f"{CALLBACK}?code=c", "http://[?state=s"]


@pytest.mark.parametrize("text", NOT_A_CALLBACK)
def test_another_address_is_not_sent_and_can_be_pasted_again(pinflow: Pinflow, text: str) -> None:
    connected = run("connect", "--paste", stdin=f"{text}\n{CALLBACK}?code=c&state=s\n")
    assert connected.exit_code == ExitCode.DONE, connected.stderr
    assert "Copy it completely from the browser's address bar. Paste it again:" in connected.stderr
    assert pinflow.calls.count("GET /v1/pinterest/oauth/callback") == 1


@pytest.mark.parametrize("text", ["", CALLBACK])
def test_the_command_ends_if_nothing_more_is_pasted(pinflow: Pinflow, text: str) -> None:
    connected = run("connect", "--paste", stdin=text)
    assert connected.exit_code == ExitCode.REFUSED
    assert "Then run the command again." in connected.stderr
    assert "GET /v1/pinterest/oauth/callback" not in pinflow.calls


@pytest.mark.parametrize(
    ("variables", "is_terminal", "has_browser"),
    [({"DISPLAY": ":0"}, True, True), ({"DISPLAY": ":0"}, False, False), ({}, True, False)],
)
def test_a_browser_is_opened_only_if_it_has_a_window(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    is_terminal: bool,
    has_browser: bool,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.platform", "linux")
    assert connections._has_browser() is has_browser


def test_refresh_and_disconnect_call_the_account(pinflow: Pinflow) -> None:
    refreshed = run("refresh", ACCOUNT, "--json")
    assert json.loads(refreshed.stdout)["health_status"] == "healthy"
    unconfirmed = run("disconnect", ACCOUNT)
    assert (unconfirmed.exit_code, "Add --yes" in unconfirmed.stderr) == (ExitCode.REFUSED, True)
    assert run("disconnect", ACCOUNT, "--yes").exit_code == ExitCode.DONE
    assert pinflow.calls == [
        f"POST /v1/pinterest/accounts/{ACCOUNT}/refresh",
        f"DELETE /v1/pinterest/accounts/{ACCOUNT}",
    ]


def test_a_second_refresh_says_that_nothing_was_refreshed(pinflow: Pinflow) -> None:
    assert "Nothing was refreshed" not in run("refresh", ACCOUNT).output
    pinflow.is_replay = True
    repeated = run("refresh", ACCOUNT, "--json")
    assert repeated.exit_code == ExitCode.DONE
    assert json.loads(repeated.stdout)["id"] == ACCOUNT
    assert "Nothing was refreshed now" in repeated.stderr
    assert "repeat the command in 30 s" in repeated.stderr


def test_a_new_token_key_is_a_key_and_differs_each_time() -> None:
    keys = [run("new-token-key").stdout.strip() for _ in range(2)]
    assert len({*keys}) == 2
    for key in keys:
        Fernet(key)


def test_the_app_owners_account_needs_the_address_and_the_token_of_access(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PINFLOW_ACCESS_URL", "PINFLOW_INTERNAL_TOKEN", "PINFLOW_WORKSPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    refused = run("connect", "--app-owner")
    assert "--app-owner needs --workspace" in refused.stderr
    refused = run("connect", "--app-owner", "--workspace", WORKSPACE)
    assert "Set PINFLOW_ACCESS_URL and PINFLOW_INTERNAL_TOKEN to" in refused.stderr
    monkeypatch.setenv("PINFLOW_ACCESS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PINFLOW_INTERNAL_TOKEN", "secret")
    away = run("connect", "--app-owner", "--workspace", WORKSPACE)
    assert (away.exit_code, "does not answer" in away.stderr) == (ExitCode.UNAVAILABLE, True)


def test_a_connected_workspace_needs_the_simulator_before_it_is_created(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PINFLOW_PINTEREST_SIMULATOR_URL", raising=False)
    create = ["workspaces", "create", "Shop", "--accounts", "1", "--connected"]
    refused = CliRunner().invoke(app, create)
    assert refused.exit_code == ExitCode.REFUSED
    assert "make up PINTEREST=simulated" in refused.stderr
    monkeypatch.setenv("PINFLOW_PINTEREST_SIMULATOR_URL", "http://127.0.0.1:9")
    away = CliRunner().invoke(app, create)
    assert (away.exit_code, "does not answer" in away.stderr) == (ExitCode.UNAVAILABLE, True)


def test_a_connected_workspace_needs_an_account() -> None:
    refused = CliRunner().invoke(app, ["workspaces", "create", "Shop", "--connected"])
    assert refused.exit_code == ExitCode.REFUSED
    assert "--connected needs accounts. Add --accounts 1" in refused.stderr


def test_a_server_that_is_not_the_simulator_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    client = SimulatorClient("http://127.0.0.1:9")
    client._http = httpx.Client(
        base_url="http://127.0.0.1:9",
        transport=httpx.MockTransport(lambda _: httpx.Response(200, text="<html>")),
    )
    with pytest.raises(typer.Exit):
        client.list_users()
    assert "is not the simulator" in capsys.readouterr().err
