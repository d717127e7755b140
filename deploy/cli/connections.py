"""Commands that connect accounts to Pinterest, refresh and disconnect them."""

import os
import sys
import webbrowser
from typing import Annotated, Any
from uuid import UUID

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.connecting import (
    ACCOUNTS,
    BOARDS,
    ask_for_redirect,
    find_account,
    finish_attempt,
    is_connected,
    start_attempt,
    wait_for_user,
)
from deploy.cli.exit_codes import fail
from deploy.cli.internal import call_internal
from deploy.cli.options import DEFAULT_URL, ApiKey, AsJson, BaseUrl, MaxRetrySeconds, Yes, parse_id
from deploy.cli.questions import require_confirmation
from deploy.cli.tables import print_fields, print_json, printable

commands = typer.Typer()

AccountId = Annotated[
    UUID,
    typer.Argument(parser=parse_id, help="The account's id, from pinflow accounts list."),
]


@commands.command("connect")
def connect_account(
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    account: Annotated[
        UUID | None,
        typer.Option(
            metavar="ID",
            parser=parse_id,
            help="The id of the account to connect, from pinflow accounts list. Default: the "
            "account of the Pinterest user who allows the access, or a new one.",
        ),
    ] = None,
    max_retry_seconds: MaxRetrySeconds = 60,
    workspace: Annotated[
        UUID | None,
        typer.Option(
            metavar="ID",
            parser=parse_id,
            envvar="PINFLOW_WORKSPACE_ID",
            help="The account's workspace. Used with --app-owner; otherwise the API key's.",
        ),
    ] = None,
    *,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address. Do not open a browser.")
    ] = False,
    paste: Annotated[
        bool,
        typer.Option(
            "--paste",
            help="Ask for the address to which Pinterest sends the browser. For a browser that "
            "can't reach Pinflow.",
        ),
    ] = False,
    app_owner: Annotated[
        bool,
        typer.Option(
            "--app-owner",
            help="Connect the Pinterest user who owns the app, without a browser. For operators: "
            "needs PINFLOW_ACCESS_URL and PINFLOW_INTERNAL_TOKEN.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Connect an account of the API key's workspace to Pinterest.

    Prints an address. Open it in a browser, log in to Pinterest, and allow the
    access. The command waits until that is done.
    """
    if app_owner:
        account_id = _connect_app_owner(workspace, account)
        if as_json:
            print_json({"account_id": account_id})
            return
        typer.echo(
            f"Account {account_id} is connected to Pinterest. See its Pinterest user with: "
            f"pinflow accounts list --workspace {workspace}"
        )
        return
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        connected_before = {
            listed["id"] for listed in client.read(ACCOUNTS) if is_connected(listed)
        }
        attempt = start_attempt(client, None if account is None else str(account))
        _show_address(attempt["authorization_url"], no_browser=no_browser, is_error=as_json)
        if paste:
            account_id = finish_attempt(client, ask_for_redirect())
        else:
            account_id = wait_for_user(client, attempt)
        document = find_account(client, account_id)
        boards = client.read(BOARDS, {"account_id": account_id})
    if as_json:
        print_json(document)
        return
    _report_connected(document, len(boards), again=account_id in connected_before)


def _show_address(url: str, *, no_browser: bool, is_error: bool) -> None:
    """Prints the address, `is_error` on standard error. Opens it in a browser if there is one."""
    typer.echo(
        f"Open this address, log in to Pinterest, and allow the access:\n\n{printable(url)}\n",
        err=is_error,
    )
    if not no_browser and _has_browser():
        webbrowser.open(url)


def _report_connected(account: dict[str, Any], boards: int, *, again: bool) -> None:
    account_id = account["id"]
    typer.echo(f"Account {account_id} is connected to Pinterest{' again' if again else ''}.")
    if again:
        typer.echo("Its deferred pins are sent within a minute. Follow them: pinflow deliveries")
    typer.echo(f"Pinterest user: {printable(str(account['username']))}. Boards: {boards}.")
    if not boards:
        typer.echo(f"Read its boards again with: pinflow accounts refresh {account_id}")


@commands.command("refresh")
def refresh_account(
    account_id: AccountId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 60,
    *,
    as_json: AsJson = False,
) -> None:
    """Refresh an account's tokens at Pinterest, and read its boards again.

    Pinflow does both by itself, ahead of time. Pinterest is asked at most once
    in 30 seconds for an account: a second command shows the account as it is.
    """
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        answer = client.command(f"{ACCOUNTS}/{account_id}/refresh")
    document: dict[str, Any] = answer.document
    print_json(document) if as_json else print_fields(document)
    if answer.is_replay:
        typer.echo(
            "Nothing was refreshed now: the last refresh began less than 30 s ago. This is the "
            "account as it is. To refresh it again, repeat the command in 30 s.",
            err=True,
        )


@commands.command("disconnect")
def disconnect_account(
    account_id: AccountId,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    yes: Yes = False,
) -> None:
    """Disconnect an account: Pinflow deletes its tokens, and publishes nothing to it any more.

    Its boards and pins stay in Pinflow and at Pinterest. To connect it again:
    pinflow accounts connect --account ID
    """
    require_confirmation(
        f"Disconnect account {account_id}? Nothing is published to it any more.",
        "disconnected",
        yes=yes,
    )
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        client.delete(f"{ACCOUNTS}/{account_id}")
    typer.echo(
        f"Account {account_id} is disconnected: nothing is published to it any more, and its "
        "tokens are deleted. To end them at Pinterest too, remove the app in the user's settings "
        "there."
    )


@commands.command("new-token-key")
def print_token_key() -> None:
    """Print a new key for PINFLOW_PINTEREST_TOKEN_KEYS, which encrypts the accounts' tokens."""
    from cryptography.fernet import Fernet  # noqa: PLC0415 - 0.1 s, and only for this command

    typer.echo(Fernet.generate_key().decode())


def _connect_app_owner(workspace_id: UUID | None, account_id: UUID | None) -> str:
    if workspace_id is None:
        fail("--app-owner needs --workspace. See all workspaces: pinflow workspaces list")
    named = {} if account_id is None else {"account_id": str(account_id)}
    answer = call_internal("pinterest/accounts", {"workspace_id": str(workspace_id), **named})
    return str(answer["account_id"])


def _has_browser() -> bool:
    """Returns whether a browser with a window can be opened. Text browsers would take over the
    terminal."""
    if not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
