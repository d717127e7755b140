"""Starts a peer's processes and waits until it accepts imports."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.local.layout import CHECKOUT
from deploy.local.ports import choose
from deploy.local.programs import Program
from tests.support.ports import FIRST_SERVICE_PORT
from tests.support.processes import RunningProgram
from tests.tools.bench.peers.peer import TOPIC_PREFIX, PeerServers
from tests.tools.bench.peers.store import Store

WEB = "web"


@dataclass(frozen=True)
class RunningProcesses:
    base_url: str
    pids: Mapping[str, int]
    schema: str
    store: Store
    programs: Mapping[str, RunningProgram]
    """The processes by name, for tests that kill them."""

    def count_settled_rows(self) -> int:
        return self.store.count_settled_rows()

    def find_faults(self, sent: Mapping[str, int]) -> list[str]:
        return self.store.find_faults(sent)

    def wait_until_ready(self) -> None:
        """Waits until the peer answers. Raises AssertionError if it does not start."""
        self.programs[WEB].wait_until(lambda: _is_ready(self.base_url))


def open_counters(servers: PeerServers, schema: str) -> Store:
    """Creates the tables of a peer that keeps counters or short results."""
    return Store(servers.database_url, schema)


@contextmanager
def start_processes(
    servers: PeerServers,
    directory: Path,
    *,
    schema: str,
    modules: Mapping[str, tuple[str, ...]],
    variables: Mapping[str, str] | None = None,
    open_store: Callable[[PeerServers, str], Store] = open_counters,
) -> Iterator[RunningProcesses]:
    """Starts Python processes. `modules` are their commands by name; one of them is WEB.

    `variables` are further environment variables with their full names. `open_store` creates the
    peer's tables.
    """
    port = choose({WEB: FIRST_SERVICE_PORT})[WEB]
    base_url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        store = open_store(servers, schema)
        stack.callback(store.close)
        environment = {
            "PYTHONPATH": str(CHECKOUT),
            "PINFLOW_DATABASE_URL": store.url,
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
            "PINFLOW_PORT": str(port),
            "PINFLOW_API_KEY": servers.workspace.api_key,
            "PINFLOW_WORKSPACE_ID": str(servers.workspace.id),
            "PINFLOW_TOPIC_PREFIX": TOPIC_PREFIX,
            **(variables or {}),
        }
        programs = {
            name: RunningProgram(Program(name, command, environment), directory)
            for name, command in modules.items()
        }
        for program in programs.values():
            stack.callback(program.close)
            program.start()
        running = RunningProcesses(
            base_url,
            {name: program.process.pid for name, program in programs.items()},
            schema,
            store,
            programs,
        )
        running.wait_until_ready()
        try:
            yield running
        except Exception as error:
            for name, program in programs.items():
                error.add_note(f"{name}'s log ends:\n{program.tail()}")
            raise


def _is_ready(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/readyz", timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False
