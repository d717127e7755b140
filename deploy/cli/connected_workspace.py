"""Connects the accounts of a new workspace to users of the simulator of Pinterest."""

import os
from typing import TYPE_CHECKING, NamedTuple

from deploy.cli.client import PinflowClient
from deploy.cli.connecting import BOARDS, connect_simulated
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.options import DEFAULT_URL
from deploy.cli.simulator import SimulatorClient

if TYPE_CHECKING:  # SQLAlchemy takes 0.2 s
    from deploy.administration import NewWorkspace

RETRY_SECONDS = 30
SIMULATOR_URL = "PINFLOW_PINTEREST_SIMULATOR_URL"


class SimulatedSettings(NamedTuple):
    base_url: str
    simulator_url: str


def read_simulated_settings() -> SimulatedSettings:
    """Reads the addresses of the gateway and the simulator. Ends the command without them."""
    url = os.environ.get(SIMULATOR_URL)
    if not url:
        fail(
            f"--connected needs the simulator of Pinterest: set {SIMULATOR_URL} to its address. "
            "The local stack has one after: make up PINTEREST=simulated"
        )
    with SimulatorClient(url) as simulator:
        simulator.list_users()  # before the workspace is created
    return SimulatedSettings(os.environ.get("PINFLOW_BASE_URL", DEFAULT_URL), url)


def connect_workspace(
    settings: SimulatedSettings, workspace: "NewWorkspace", *, boards: int
) -> "NewWorkspace":
    """Connects each account to a new user with this number of boards.

    Returns the workspace with the boards as Pinflow knows them afterwards.
    """
    with (
        PinflowClient(settings.base_url, workspace.api_key, RETRY_SECONDS) as client,
        SimulatorClient(settings.simulator_url) as simulator,
    ):
        accounts = []
        for account in workspace.accounts:
            user = simulator.create_user(boards=boards)
            connect_simulated(client, simulator, str(account.id), user["username"])
            read = client.read(BOARDS, {"account_id": str(account.id)})
            board_ids = sorted(board["id"] for board in read)
            if board_ids != sorted(user["boards"]):
                fail(
                    f"The boards of account {account.id} could not be read from the simulator. "
                    f"Read them with: pinflow accounts refresh {account.id}",
                    ExitCode.UNAVAILABLE,
                )
            accounts.append(account._replace(boards=board_ids))
    return workspace._replace(accounts=accounts)
