"""The system under test: the chaos arena, the simulator behind a proxy, two delivery processes."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deploy.administration import NewWorkspace, create_workspace
from deploy.cli.connected_workspace import SimulatedSettings, connect_workspace
from deploy.local.ports import choose
from tests.acceptance.conftest import administer
from tests.support import ports
from tests.support.connections import name_settings
from tests.support.processes import RunningProgram
from tests.support.simulator import Simulator, running_simulator
from tests.tools.chaos.arena import WATCH_SECONDS, Arena, arena
from tests.tools.chaos.network import HOST, Proxy

WORKSPACES = 2
BOARDS = 3
DELIVERY_REPLICAS = 2
CONFIRM_SECONDS = 45
LATE_LIST_SECONDS = 12
"""The time for which lists hide new pins. At most CONFIRM_SECONDS - 30, so that the second look
sees them."""
TIMEOUT_SECONDS = 5

SETTINGS = {
    "pinterest_timeout_seconds": str(TIMEOUT_SECONDS),
    "delivery_confirm_seconds": str(CONFIRM_SECONDS),
    "delivery_spacing_seconds": "0",
    "delivery_daily_pins": "200000",
    "delivery_account_writes_per_minute": "10000",
    "delivery_account_reads_per_minute": "10000",
    "delivery_app_requests_per_second": "10000",
}
"""Fast enough for thousands of pins. The rules stay the same, only the waits are shorter."""


@dataclass
class DeliveryArena:
    """The system under test, with the judge."""

    arena: Arena
    simulator: Simulator
    """Reached directly. Pinflow reaches it through the proxy."""
    pinterest_proxy: Proxy
    deliveries: list[RunningProgram]
    workspaces: list[NewWorkspace]
    answers: Counter[str] = field(default_factory=Counter)
    """The answers with a fault, by kind. The simulator forgets its own count when it is killed."""

    @property
    def simulated_settings(self) -> SimulatedSettings:
        return SimulatedSettings(self.arena.deployment.base_url, self.simulator.url)

    async def count_answers(self) -> None:
        """Adds the answers with a fault that the simulator has counted. Call it once for a life."""
        described = await asyncio.to_thread(self.simulator.control, "GET", "faults")
        self.answers.update(described["fired"])

    async def supervise(self) -> None:
        """Restarts programs that ended by themselves. Runs until it is canceled."""
        supervisor = asyncio.create_task(self.arena.supervise())
        try:
            while True:
                self.arena.restart_dead(self.simulator.process)
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor


@contextmanager
def delivery_arena(
    directory: Path,
    brokers: int,
    accounts: int,
    replicas: int = DELIVERY_REPLICAS,
    **variables: str,
) -> Iterator[DeliveryArena]:
    """Starts everything, with `accounts` connected accounts, and stops it at the end.

    `variables` replace SETTINGS.
    """
    with running_simulator(data=directory / "simulator.sqlite", logs=directory) as simulator:
        simulator.change_settings(buckets=False)
        (port,) = choose({"pinterest": ports.PROXIES + 15}).values()
        settings = {**name_settings(simulator), **SETTINGS, **variables}
        settings["pinterest_simulator_url"] = f"http://{HOST}:{port}"
        with arena(directory, brokers, {"delivery": replicas}, **settings) as running:
            upstream = urlsplit(simulator.url).port
            assert upstream is not None
            proxy = running.network.proxy(upstream, port)
            workspaces = [
                _connected_workspace(running, simulator, f"Deliveries {number}", accounts // 2)
                for number in range(WORKSPACES)
            ]
            deliveries = [
                running.program(name) for name in running.deployment.replica_names("delivery")
            ]
            yield DeliveryArena(running, simulator, proxy, deliveries, workspaces)


def _connected_workspace(
    running: Arena, simulator: Simulator, name: str, accounts: int
) -> NewWorkspace:
    workspace = administer(
        running.database_url,
        lambda operator: create_workspace(operator, name, accounts=accounts, boards=0),
    )
    settings = SimulatedSettings(running.deployment.base_url, simulator.url)
    return connect_workspace(settings, workspace, boards=BOARDS)
