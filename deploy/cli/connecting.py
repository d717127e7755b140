"""Connects an account of Pinterest through the API."""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.progress import show_waiting
from deploy.cli.simulator import SimulatorClient
from deploy.cli.tables import format_time, printable

ACCOUNTS = "/v1/pinterest/accounts"
BOARDS = "/v1/pinterest/boards"
OAUTH = "/v1/pinterest/oauth"
CALLBACK_PARAMETERS = ("code", "error", "error_description", "state")
POLL_SECONDS = 1.0
PROCESSING_TIME = timedelta(minutes=1)
"""The time after its end for which an attempt may still be processed."""

_WRONG_REDIRECT = (
    "This is not the address to which Pinterest sends the browser. It has the parameters code and "
    "state. Copy it completely from the browser's address bar."
)

Attempt = Mapping[str, Any]
"""The answer of GET /v1/pinterest/oauth/start: authorization_url, attempt_id, expires_at."""


def start_attempt(client: PinflowClient, account_id: str | None) -> Attempt:
    attempt: Attempt = client.read(f"{OAUTH}/start", {"account_id": account_id})
    return attempt


def ask_for_redirect() -> dict[str, str]:
    """Reads the URL to which Pinterest sent the browser from the terminal, until it is one.

    Returns the parameters of the callback. Not an argument of the command: the URL has a code that
    must not stand in the shell's history.
    """
    typer.echo("Paste the address that the browser shows at the end, also if it shows an error:")
    while (parameters := _read_redirect(line := sys.stdin.readline())) is None:
        if not line:
            fail(f"{_WRONG_REDIRECT} Then run the command again.")
        typer.echo(f"{_WRONG_REDIRECT} Paste it again:", err=True)
    return parameters


def _read_redirect(url: str) -> dict[str, str] | None:
    try:
        query = parse_qs(urlsplit(url.strip()).query)
    except ValueError:
        return None
    parameters = {name: query[name][0] for name in CALLBACK_PARAMETERS if name in query}
    is_complete = "state" in parameters and {"code", "error"} & parameters.keys()
    return parameters if is_complete else None


def finish_attempt(client: PinflowClient, parameters: Mapping[str, str]) -> str:
    """Hands in the parameters of the callback. Returns the account's id."""
    answer = client.read(f"{OAUTH}/callback", parameters)
    return str(answer["account_id"])


def wait_for_user(client: PinflowClient, attempt: Attempt) -> str:
    """Waits until the user has allowed the access in a browser. Returns the account's id."""
    attempt_id = attempt["attempt_id"]
    end = datetime.fromisoformat(attempt["expires_at"]) + PROCESSING_TIME
    try:
        with show_waiting(
            "Waiting until the access is allowed, until "
            f"{format_time(attempt['expires_at'])} at the latest. Ctrl+C stops waiting."
        ):
            while True:
                state = client.read(f"{OAUTH}/attempts/{attempt_id}")
                if state["status"] != "pending" or datetime.now(UTC) > end:
                    break
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        valid_until = format_time(attempt["expires_at"])
        typer.echo(
            f"\nThe command stopped. The address stays valid until {valid_until}. See whether the "
            "account was connected: pinflow deliveries",
            err=True,
        )
        raise typer.Exit(ExitCode.UNAVAILABLE) from None
    return _read_account_id(state)


def _read_account_id(attempt: Mapping[str, Any]) -> str:
    if attempt["status"] == "failed":
        reason = printable(f"{attempt['message']} ({attempt['code']})")
        fail(f"{reason}\nTo start again, run the command again.")
    if attempt["status"] != "connected":
        fail(
            "Nobody allowed the access in time, so nothing was connected. Run the command again.",
            ExitCode.UNAVAILABLE,
        )
    return str(attempt["account_id"])


def connect_simulated(
    client: PinflowClient, simulator: SimulatorClient, account_id: str, username: str
) -> None:
    """Connects the account to a user of the simulator, through the same steps as a browser."""
    attempt = start_attempt(client, account_id)
    redirected_url = simulator.allow(attempt["authorization_url"], username)
    finish_attempt(client, dict(parse_qsl(urlsplit(redirected_url).query)))


def find_account(client: PinflowClient, account_id: str) -> dict[str, Any]:
    """Returns an account of the key's workspace."""
    account: dict[str, Any] | None = next(
        (listed for listed in client.read(ACCOUNTS) if listed["id"] == account_id), None
    )
    if account is None:
        fail(f"Your API key sees no account {account_id}. See your accounts: pinflow template")
    return account


def is_connected(account: Mapping[str, Any]) -> bool:
    """Returns whether the account is or was connected: it then has an id at Pinterest."""
    return bool(account["pinterest_user_id"] != account["id"])
