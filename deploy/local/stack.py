"""Starts and stops the stack, and deletes its data."""

import asyncio
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from deploy.administration import OperatorRepository, create_workspace
from deploy.cli.environment import read_env, write_env
from deploy.local import gateway, pinterest, ports
from deploy.local.command_lock import CommandLock
from deploy.local.connections import connect_accounts
from deploy.local.kafka import new_cluster_id
from deploy.local.layout import CHECKOUT, Layout, LocalError
from deploy.local.ownership import ForeignServer, find_service_problem
from deploy.local.plan import StackPlan
from deploy.local.programs import Program
from deploy.local.readiness import read_readiness
from deploy.local.reservations import PortReservations
from deploy.local.settings_file import find_named_files
from deploy.local.startup import ExitedAtStart, Startup
from deploy.local.supervision import Supervisor
from deploy.migrations import migrate
from deploy.migrations.runner import ROLES
from deploy.old_topics import NotDrained
from deploy.services import SERVICES, WORKERS
from deploy.topics import create_topics, describe_creation
from shared.access.repository import AccessRepository
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings

OLDER_STACK = (
    "An older version of Pinflow is running here, without some of the services. Nothing was "
    "changed. Run make down, then make up."
)
ACTIVE_STATES = {"STARTING", "RUNNING", "BACKOFF"}
"""supervisor's states of a program that it keeps alive."""
GATEWAY_REQUESTS = 16
"""The number of requests that must all reach our gateway. Two Caddy processes can listen on one
port (SO_REUSEPORT), and each connection goes to one of them."""

WORKSPACE = "Local"
ACCOUNTS, BOARDS = 2, 5

ReportProgress = Callable[[str], None]


def _delete_contents(directory: Path, kept: Collection[Path]) -> None:
    """Deletes what is in the directory, except for the kept files and the folders they are in."""
    for path in directory.iterdir():
        if path in kept:
            continue
        is_on_the_way = any(path in file.parents for file in kept)
        if path.is_symlink() and is_on_the_way:
            continue  # what it leads to is not the stack's
        if not path.is_dir() or path.is_symlink():
            path.unlink()
        elif is_on_the_way:
            _delete_contents(path, kept)
        else:
            shutil.rmtree(path)


class Stack:
    """The stack of one directory. Every method may raise LocalError.

    `brokers` is the requested number of brokers. None keeps the number that the existing data has.
    `pinterest_choice` is "simulated", "off", or None to keep the choice of the last start.
    """

    def __init__(
        self,
        layout: Layout,
        report: ReportProgress,
        brokers: int | None = None,
        pinterest_choice: str | None = None,
    ) -> None:
        self._layout = layout
        self._report = report
        self._supervisor = Supervisor(layout)
        self._lock = CommandLock(layout, report)
        self._plan = StackPlan(layout, brokers, pinterest.PinterestChoice(layout, pinterest_choice))

    def up(self) -> bool:
        """Starts all processes that are not running, and waits until Pinflow is ready.

        Returns whether anything had to be started.
        """
        with self._lock.hold():
            was_running = self._supervisor.is_running()
            if not was_running:
                self._launch_supervisor()
            before = self._supervisor.states()
            workers = WORKERS if pinterest.SIMULATOR in before else {}
            if not {*SERVICES, *workers, "gateway"} <= before.keys():
                raise LocalError(OLDER_STACK)
            self._plan.pinterest.require_running(before)
            try:
                startup = Startup(self._layout, self._supervisor, self._report)
                self._start_servers(startup)
                self._prepare_servers()
                self._start_services(startup)
                self._connect_accounts()
            except (ForeignServer, ExitedAtStart) as error:
                message = self._handle_failed_start(error, was_running=was_running)
                raise LocalError(message) from None
            return not was_running or any(state != "RUNNING" for state in before.values())

    def prefer_simulator(self) -> None:
        """Chooses PINTEREST=simulated for the next `up`, unless the settings name a mode."""
        if self.pinterest_mode == pinterest.OFF:
            self._plan.pinterest = pinterest.PinterestChoice(self._layout, pinterest.SIMULATED)

    def _handle_failed_start(
        self, error: ForeignServer | ExitedAtStart, *, was_running: bool
    ) -> str:
        """Stops the processes that this command started, and returns the message for the user.

        Without the stop two gateways could share a port, or a program would exit forever.
        """
        if was_running:
            return f"{error}\n{error.advice} Run make down, then make up."
        self._supervisor.shut_down(self._report)
        return f"{error}\nThe stack is stopped. {error.advice} Run make up again."

    def down(self) -> bool:
        """Stops all processes and keeps the data. Returns whether anything was running."""
        with self._lock.hold():
            return self._stop()

    def clean(self) -> list[str]:
        """Stops all processes and deletes everything but the user's own files.

        These are the settings, the files that they name, and the secret of the app. Returns the
        paths of those that exist, relative to the stack's directory.
        """
        directory = self._layout.directory
        if not directory.exists():
            return []
        with self._lock.hold():
            own = self._find_own_files()
            self._stop()
            self._report("deleting the data")
            self._plan.postgres.remove()
            _delete_contents(directory, {*own, self._lock.file})
            # Last: a command that waits for the lock then creates what it needs again
            self._lock.file.unlink()
            with suppress(OSError):  # the user's files are in it
                directory.rmdir()
        return sorted(str(path.relative_to(directory)) for path in own)

    def _find_own_files(self) -> set[Path]:
        directory = self._layout.directory
        named = {
            directory / path.relative_to(base)
            for path in find_named_files(self._layout.settings_file, CHECKOUT)
            for base in (directory.absolute(), directory.resolve())
            if path.is_relative_to(base)
        }
        documented = {self._layout.settings_file, self._layout.app_secret_file}
        return named | {path for path in documented if path.exists()}

    def _stop(self) -> bool:
        was_running = self._supervisor.is_running()
        if was_running:
            self._supervisor.shut_down(self._report)
        orphans = self._supervisor.stop_orphans()
        for file in (self._layout.directory / "run").glob("*.pid"):
            file.unlink()
        self._layout.supervisor_socket.unlink(missing_ok=True)
        return was_running or bool(orphans)

    def states(self) -> dict[str, str]:
        """Returns supervisor's state of each process; empty if the stack is down."""
        return self._supervisor.states() if self._supervisor.is_running() else {}

    def uptimes(self) -> dict[str, int]:
        """Returns the seconds since the last start of each running process."""
        return self._supervisor.uptimes() if self._supervisor.is_running() else {}

    def readiness(self) -> dict[str, str]:
        """Returns whether each running process that answers HTTP is ready, or why it is not."""
        with_http = {*SERVICES, *WORKERS, "gateway", pinterest.SIMULATOR}
        running = [name for name, state in self.states().items() if state == "RUNNING"]
        ports = self._plan.state.ports
        return read_readiness({name: ports[name] for name in running if name in with_http})

    def addresses(self) -> dict[str, str]:
        """Returns host:port of each process. Supervisor states have the same names."""
        return {name: f"127.0.0.1:{port}" for name, port in self._plan.state.ports.items()}

    def env(self) -> dict[str, str]:
        """Reads the variables of `.pinflow/env`."""
        return read_env(self._layout.env_file)

    @property
    def directory(self) -> Path:
        return self._layout.directory

    @property
    def base_url(self) -> str:
        return self._plan.base_url

    @property
    def simulator_url(self) -> str | None:
        """The URL of the simulator of Pinterest. None without PINTEREST=simulated."""
        return self._plan.simulator_url

    @property
    def pinterest_mode(self) -> str:
        """PINFLOW_PINTEREST_MODE of the services, if they start now."""
        return self._plan.pinterest_mode

    def _launch_supervisor(self) -> None:
        """Chooses the ports and starts supervisor, which keeps them reserved until it ends."""
        self._check_settings()
        self._plan.pinterest.save()
        for name in self._supervisor.stop_orphans():
            self._report(f"stopped a {name} process that had lost its supervisor")
        with PortReservations.open() as reservations:
            self._choose_ports(reservations)
            programs = self._prepare_programs()
            self._supervisor.launch(programs, inherited=reservations.descriptors)

    def _check_settings(self) -> None:
        self._plan.settings_file.check(
            {name: self._plan.build_environment(name) for name in (*SERVICES, *WORKERS)},
            chosen=pinterest.CHOSEN if self._plan.pinterest.is_simulated else (),
            choice="PINTEREST=simulated",
        )

    def _choose_ports(self, reservations: PortReservations) -> None:
        def is_available(port: int) -> bool:
            if not reservations.acquire(port):
                return False
            is_free = ports.is_free(port)
            if not is_free:
                reservations.release(port)
            return is_free

        preferred = dict(self._plan.state.ports)
        if not self._plan.pinterest.is_simulated:
            preferred.pop(pinterest.SIMULATOR)
        for name in WORKERS.keys() - self._plan.workers:
            preferred.pop(name)
        self._plan.state.ports = ports.choose(preferred, is_available)
        for name, port in self._plan.state.ports.items():
            if port != preferred[name]:
                program = name.replace("_", " ")
                self._report(f"port {preferred[name]} is taken: {program} uses {port}")
        self._plan.state.save(self._layout.state_file)

    def _prepare_programs(self) -> list[Program]:
        if not self._plan.stored_id:
            self._layout.installation_file.write_text(f"{new_cluster_id()}\n", encoding="utf-8")
        self._report("preparing Kafka and Postgres")
        with ThreadPoolExecutor() as pool:
            brokers, postgres = (
                pool.submit(self._plan.kafka.prepare),
                pool.submit(self._plan.postgres.prepare),
            )
        programs = [
            *brokers.result(),
            postgres.result(),
            *self._plan.service_programs(),
            self._plan.gateway_program(),
        ]
        if self._plan.pinterest.is_simulated:
            port = self._plan.state.ports[pinterest.SIMULATOR]
            programs.append(pinterest.simulator_program(self._layout, port))
        return programs

    def _start_servers(self, startup: Startup) -> None:
        brokers = [node.name for node in self._plan.kafka.nodes]
        self._report("starting Kafka and Postgres")
        for name in (*brokers, "postgres"):
            self._start(name)
        startup.wait_for(
            "postgres", lambda: None if self._plan.postgres.is_ready() else "no answer"
        )
        startup.wait_for(
            brokers[-1], lambda: None if asyncio.run(self._plan.kafka.is_ready()) else "no answer"
        )

    def _prepare_servers(self) -> None:
        # Topics first: if the old ones are not drained, the previous version must run again, and
        # it needs its own schema
        try:
            created = asyncio.run(create_topics(self._plan.kafka_settings()))
        except NotDrained as error:
            raise LocalError(
                f"{error}\nRun make down before you start the previous version."
            ) from None
        for remark in describe_creation(created):
            self._report(remark)
        migrate(self._plan.postgres.url, {role: self._plan.state.passwords[role] for role in ROLES})
        workspace = asyncio.run(self._ensure_workspace())
        write_env(
            self._layout.env_file,
            self._plan.addresses() | self._plan.operator_variables() | workspace,
        )

    def _start_services(self, startup: Startup) -> None:
        self._report("starting the services")
        states = self._supervisor.states()
        simulators = [pinterest.SIMULATOR] if self.simulator_url is not None else []
        workers = [name for name in WORKERS if name in states]
        for name in (*simulators, *SERVICES, *workers, "gateway"):
            self._start(name)
        if self.simulator_url is not None:
            startup.wait_for(
                pinterest.SIMULATOR, partial(pinterest.find_problem, self.simulator_url)
            )
        for name in (*SERVICES, *workers):
            startup.wait_for(name, partial(self._find_service_problem, name, 1))
        startup.wait_for(
            "gateway", partial(self._find_service_problem, "gateway", GATEWAY_REQUESTS)
        )
        startup.wait_for("gateway", lambda: gateway.find_problem(self.base_url))

    def _connect_accounts(self) -> None:
        """Connects the accounts that `up` created to the simulator, unless they ever were."""
        if self.simulator_url is not None:
            env = self.env()
            connect_accounts(
                self.base_url, env["PINFLOW_API_KEY"], self.simulator_url, ACCOUNTS, self._report
            )

    def _start(self, name: str) -> None:
        """Starts a program unless it is running. Raises ForeignServer if its port is taken."""
        if self._supervisor.states()[name] not in ACTIVE_STATES:
            taken = [port for port in self._find_ports(name) if not ports.is_free(port)]
            if taken:
                raise ForeignServer(
                    f"Another program uses port {taken[0]}, which is the port of this stack's "
                    f"{name}."
                )
        self._supervisor.start(name)

    def _find_ports(self, name: str) -> list[int]:
        names = (name, f"{name}_controller")  # a broker has two ports
        return [self._plan.state.ports[each] for each in names if each in self._plan.state.ports]

    def _find_service_problem(self, name: str, requests: int) -> str | None:
        if not self._plan.stored_id:
            return None  # an older version started the stack, without an id
        port, installation = self._plan.state.ports[name], self._plan.installation
        problems = (find_service_problem(name, port, installation) for _ in range(requests))
        return next(filter(None, problems), None)

    async def _ensure_workspace(self) -> dict[str, str]:
        """Returns id and key of the workspace in `.pinflow/env`. Creates it the first time."""
        stored = self.env()
        settings = DatabaseSettings(database_url=SecretStr(self._plan.postgres.url))
        database = Database.from_settings(settings, application="pinflow-local")
        try:
            if "PINFLOW_API_KEY" in stored and await AccessRepository(database).workspace_exists(
                UUID(stored["PINFLOW_WORKSPACE_ID"])
            ):
                return {name: stored[name] for name in ("PINFLOW_API_KEY", "PINFLOW_WORKSPACE_ID")}
            workspace = await create_workspace(
                OperatorRepository(database), WORKSPACE, accounts=ACCOUNTS, boards=BOARDS
            )
        finally:
            await database.dispose()
        return {"PINFLOW_API_KEY": workspace.api_key, "PINFLOW_WORKSPACE_ID": str(workspace.id)}
