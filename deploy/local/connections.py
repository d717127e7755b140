"""Connects the accounts of the local workspace to the simulator of Pinterest."""

from collections.abc import Callable

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.connecting import ACCOUNTS, connect_simulated, is_connected
from deploy.cli.simulator import SimulatorClient
from deploy.local.layout import LocalError

RETRY_SECONDS = 30
NEW_BOARDS = 5


def connect_accounts(
    base_url: str,
    api_key: str,
    simulator_url: str,
    count: int,
    report: Callable[[str], None],
) -> None:
    """Connects the workspace's first `count` accounts, unless they are or were connected.

    A disconnected account is not connected again, because the user wanted that. Raises LocalError.
    """
    try:
        with (
            PinflowClient(base_url, api_key, RETRY_SECONDS) as client,
            SimulatorClient(simulator_url) as simulator,
        ):
            _connect(client, simulator, count, report)
    except typer.Exit:  # the message is on standard error
        raise LocalError(
            "All processes are running, but the accounts are not connected to the simulator of "
            "Pinterest. Correct the cause above, then run make up again."
        ) from None


def _connect(
    client: PinflowClient,
    simulator: SimulatorClient,
    count: int,
    report: Callable[[str], None],
) -> None:
    accounts = client.read(ACCOUNTS)
    fresh = [
        account
        for account in accounts[:count]
        if not is_connected(account) and account["revoked_at"] is None
    ]
    if not fresh:
        return
    report("connecting the accounts to the simulator of Pinterest")
    taken = {account["pinterest_user_id"] for account in accounts}
    free = [user for user in simulator.list_users() if user["id"] not in taken]
    for account in fresh:
        user = free.pop(0) if free else simulator.create_user(boards=NEW_BOARDS)
        connect_simulated(client, simulator, account["id"], user["username"])
