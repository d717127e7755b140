"""Shows how many pins wait for their delivery to Pinterest, and why they wait."""

from typing import Any
from uuid import UUID

import typer

from deploy.cli import resuming
from deploy.cli.client import PinflowClient
from deploy.cli.connecting import ACCOUNTS, find_account
from deploy.cli.exit_codes import ExitCode
from deploy.cli.options import DEFAULT_URL, ApiKey, AsJson, BaseUrl, MaxRetrySeconds
from deploy.cli.pins import ByAccount
from deploy.cli.tables import format_time, print_json, print_table, read_path
from shared.access.connection_health import RECONNECT_CODES
from shared.contract.errors import ErrorCode

DELIVERIES = "/v1/deliveries"
COLUMNS = {
    "account": "account_id",
    "name": "name",
    "waiting": "queued_count",
    "sending": "publishing_count",
    "oldest": "oldest_queued_at",
    "estimated_end": "estimated_end",
    "paused_until": "pause.until",
    "code": "pause.code",
    "reason": "pause.message",
}
"""The path of each column's value, by its header."""
TIMES = ("oldest", "estimated_end", "paused_until")
CONNECT_CODES = {*map(ErrorCode, RECONNECT_CODES), ErrorCode.ACCOUNT_NOT_CONNECTED}
"""The codes of pauses that end when the account's user connects it again."""

commands = typer.Typer()
commands.add_typer(resuming.commands)


@commands.callback(invoke_without_command=True)
def show_deliveries(
    context: typer.Context,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    account: ByAccount = None,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the pins that wait for their delivery to Pinterest, by account. Or end a pause.

    Shows how many wait, since when, when they may all be delivered, and why an
    account is paused. Without paused_until, somebody has to do what the reason
    says. Times are in UTC.

    Exit codes:
    0: no account is paused
    1: at least one of them is paused
    2: the request or the command line is wrong, or your key does not see the account
    3: a server did not answer; try again
    """
    if context.invoked_subcommand is not None:
        return
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        listed = client.read(DELIVERIES)
        accounts = [each for each in listed if account in {None, UUID(each["account_id"])}]
        if account is not None and not accounts:
            find_account(client, str(account))  # an unknown one ends the command
        names = {} if as_json or not accounts else _read_names(client)
    if as_json:
        print_json(accounts)
    elif not accounts:
        typer.echo(_describe_unconnected(account))
    else:
        named = [{**each, "name": names.get(each["account_id"])} for each in accounts]
        print_table(list(COLUMNS), [_build_row(each) for each in named])
        if any(each["pause"] and each["pause"]["code"] in CONNECT_CODES for each in accounts):
            typer.echo("To connect an account again: pinflow accounts connect --account ID")
    if any(each["pause"] for each in accounts):
        raise typer.Exit(ExitCode.ACCOUNTS_PAUSED)


def _describe_unconnected(account: UUID | None) -> str:
    if account is None:
        return (
            "No account of the workspace was ever connected to Pinterest. To connect one: pinflow "
            "accounts connect"
        )
    return (
        f"Account {account} was never connected to Pinterest, so none of its pins waits for a "
        f"delivery. To connect it: pinflow accounts connect --account {account}"
    )


def _read_names(client: PinflowClient) -> dict[str, str | None]:
    """Reads the names of the accounts by id. An account without one has its user name."""
    return {
        account["id"]: account["display_name"] or account["username"]
        for account in client.read(ACCOUNTS)
    }


def _build_row(account: dict[str, Any]) -> list[Any]:
    values = {name: read_path(account, path) for name, path in COLUMNS.items()}
    return [
        format_time(value) if name in TIMES and value is not None else value
        for name, value in values.items()
    ]
