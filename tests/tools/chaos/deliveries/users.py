"""The users of the accounts: they connect an account again when Pinflow asks them to.

A restored Postgres may lack the newest refresh token of an account, and an answer with new tokens
can be lost. Nothing but its user's consent then brings the account back.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import typer

from deploy.administration import NewWorkspace
from deploy.cli.client import PinflowClient
from deploy.cli.connected_workspace import SimulatedSettings
from deploy.cli.connecting import ACCOUNTS, connect_simulated
from deploy.cli.simulator import SimulatorClient

LOOK_SECONDS = 10.0
RETRY_SECONDS = 5


@dataclass
class Users:
    """Looks after all accounts of the workspaces, and counts what was connected again."""

    settings: SimulatedSettings
    workspaces: Sequence[NewWorkspace]
    connected_again: int = field(default=0, init=False)

    async def look_after_accounts(self) -> None:
        """Looks every LOOK_SECONDS whether an account needs its user. Runs until it is canceled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for workspace in self.workspaces:
                await asyncio.to_thread(self._connect_lost, workspace)

    def _connect_lost(self, workspace: NewWorkspace) -> None:
        """Connects the lost accounts. What a fault prevents is tried again at the next look."""
        try:
            with (
                PinflowClient(self.settings.base_url, workspace.api_key, RETRY_SECONDS) as client,
                SimulatorClient(self.settings.simulator_url) as simulator,
            ):
                for account in client.read(ACCOUNTS):
                    if account["reconnect_required"]:
                        username = account["username"]
                        connect_simulated(client, simulator, account["id"], username)
                        self.connected_again += 1
        except typer.Exit:
            pass
