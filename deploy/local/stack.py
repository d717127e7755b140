"""Starts and stops the stack, and deletes its data."""

import asyncio
import fcntl
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TextIO
from uuid import UUID

from pydantic import SecretStr

from deploy.administration import OperatorRepository, create_workspace
from deploy.cli.environment import read_env, write_env
from deploy.local import gateway, ports
from deploy.local.kafka import KafkaCluster, new_cluster_id, select_ports
from deploy.local.layout import Layout, LocalError
from deploy.local.ownership import ForeignServer, find_service_problem
from deploy.local.postgres import Postgres
from deploy.local.programs import Program, service_program
from deploy.local.reservations import PortReservations
from deploy.local.settings_file import SettingsFile, service_environment
from deploy.local.state import INTERNAL, OWNER, StackState
from deploy.local.supervision import Supervisor
from deploy.migrations import migrate
from deploy.migrations.runner import ROLES
from deploy.old_topics import NotDrained
from deploy.services import CHECKED_SERVICES, DEFAULT_SERVICE, SERVICES
from deploy.topics import create_topics, describe_creation
from shared.access.repository import AccessRepository
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings, KafkaSettings

READY_SECONDS = 240.0
"""The deadline for the start of all processes. When three stacks started together on two busy
cores, a single process needed more than 90 s."""
NOTICE_SECONDS = 20.0
"""Seconds until the command prints what it is waiting for. Most starts are faster."""
POLL_SECONDS = 0.1
RECOVER = "pinflow recover"
"""The /readyz answer of a service that waits for an operator contains this command."""
POSITIONS_REFUSED = (
    "All processes are running, but Kafka and Postgres do not match: one was replaced, for "
    "instance by an older copy. The services wait until you accept the loss. To see what is lost: "
    ".venv/bin/pinflow recover (docs/how-to/restore-a-backup.md)"
)
OLDER_STACK = (
    "An older version of Pinflow is running here, without some of the services. Nothing was "
    "changed. Run make down, then make up."
)
LOG_LINES_SHOWN = 8
MAX_EXITS = 3
"""The number of exits of one process at which a start is given up. Once or twice may be chance."""
ACTIVE_STATES = {"STARTING", "RUNNING", "BACKOFF"}
"""supervisor's states of a program that it keeps alive."""
GATEWAY_REQUESTS = 16
"""The number of requests that must all reach our gateway. Two Caddy processes can listen on one
port (SO_REUSEPORT), and each connection goes to one of them."""

WORKSPACE = "Local"
ACCOUNTS, BOARDS = 2, 5

ReportProgress = Callable[[str], None]


class ExitedAtStart(LocalError):
    """A process exits again and again."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class Stack:
    """The stack of one directory. Every method may raise LocalError.

    `brokers` is the requested number of brokers. None keeps the number that the existing data has.
    """

    def __init__(self, layout: Layout, report: ReportProgress, brokers: int | None = None) -> None:
        self._layout = layout
        self._brokers = brokers
        self._report = report
        self._supervisor = Supervisor(layout)
        self._seen_pids: defaultdict[str, set[int]] = defaultdict(set)

    def up(self) -> bool:
        """Starts all processes that are not running, and waits until Pinflow is ready.

        Returns whether anything had to be started.
        """
        with self._command_lock():
            was_running = self._supervisor.is_running()
            if not was_running:
                self._launch_supervisor()
            before = self._supervisor.states()
            if not {*SERVICES, "gateway"} <= before.keys():
                raise LocalError(OLDER_STACK)
            try:
                started = time.monotonic()
                self._start_servers(started)
                self._prepare_servers()
                self._start_services(started)
            except (ForeignServer, ExitedAtStart) as error:
                message = self._handle_failed_start(error, was_running=was_running)
                raise LocalError(message) from None
            return not was_running or any(state != "RUNNING" for state in before.values())

    def _handle_failed_start(
        self, error: ForeignServer | ExitedAtStart, *, was_running: bool
    ) -> str:
        """Stops the processes that this command started, and returns the message for the user.

        Without the stop two gateways could share a port, or a program would exit forever.
        """
        if was_running:
            return f"{error}\n{error.advice} Run make down, then make up."
        self._supervisor.shut_down()
        return f"{error}\nThe stack is stopped. {error.advice} Run make up again."

    def down(self) -> bool:
        """Stops all processes and keeps the data. Returns whether anything was running."""
        with self._command_lock():
            return self._stop()

    def clean(self) -> None:
        """Stops all processes and deletes everything but the user's settings."""
        if not self._layout.directory.exists():
            return
        with self._command_lock():
            self._stop()
            self._postgres.remove()
            kept = (self._layout.settings_file, self._lock_file)
            for path in self._layout.directory.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path not in kept:
                    path.unlink()
            # Last: a command that waits for the lock then creates what it needs again
            self._lock_file.unlink()
            with suppress(OSError):  # the settings are in it
                self._layout.directory.rmdir()

    def _stop(self) -> bool:
        was_running = self._supervisor.is_running()
        if was_running:
            self._supervisor.shut_down()
        orphans = self._supervisor.stop_orphans()
        for file in (self._layout.directory / "run").glob("*.pid"):
            file.unlink()
        self._layout.supervisor_socket.unlink(missing_ok=True)
        return was_running or bool(orphans)

    def states(self) -> dict[str, str]:
        """Returns supervisor's state of each process; empty if the stack is down."""
        return self._supervisor.states() if self._supervisor.is_running() else {}

    def addresses(self) -> dict[str, str]:
        """Returns host:port of each process. Supervisor states have the same names."""
        return {name: f"127.0.0.1:{port}" for name, port in self._state.ports.items()}

    def env(self) -> dict[str, str]:
        """Reads the variables of `.pinflow/env`."""
        return read_env(self._layout.env_file)

    @property
    def directory(self) -> Path:
        return self._layout.directory

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._state.ports['gateway']}"

    @contextmanager
    def _command_lock(self) -> Iterator[None]:
        """Serializes commands on one stack: a second command waits for the first."""
        while (file := self._open_locked()) is None:
            pass  # another command's `clean` has deleted the file: lock the new one
        with file:
            self._layout.create_directories()
            yield

    def _open_locked(self) -> TextIO | None:
        """Waits for the lock, and returns its file. Returns None if the file was deleted."""
        self._layout.directory.mkdir(parents=True, exist_ok=True)
        try:
            file = self._lock_file.open("w")
        except FileNotFoundError:
            return None
        # If this command is killed, the next one waits for programs that it ran (kafka.py,
        # postgres.py)
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._report("waiting for another make up, down, clean or demo in this directory")
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), self._lock_file.stat()):
                return file
        file.close()
        return None

    @property
    def _lock_file(self) -> Path:
        return self._layout.directory / "lock"

    def _launch_supervisor(self) -> None:
        """Chooses the ports and starts supervisor, which keeps them reserved until it ends."""
        self._settings_file.check({name: self._service_environment(name) for name in SERVICES})
        for name in self._supervisor.stop_orphans():
            self._report(f"stopped a {name} process that had lost its supervisor")
        with PortReservations.open() as reservations:
            self._choose_ports(reservations)
            programs = self._prepare_programs()
            self._supervisor.launch(programs, inherited=reservations.descriptors)

    def _choose_ports(self, reservations: PortReservations) -> None:
        def is_available(port: int) -> bool:
            if not reservations.acquire(port):
                return False
            is_free = ports.is_free(port)
            if not is_free:
                reservations.release(port)
            return is_free

        preferred = dict(self._state.ports)
        self._state.ports = ports.choose(preferred, is_available)
        for name, port in self._state.ports.items():
            if port != preferred[name]:
                program = name.replace("_", " ")
                self._report(f"port {preferred[name]} is taken: {program} uses {port}")
        self._state.save(self._layout.state_file)

    def _prepare_programs(self) -> list[Program]:
        if not self._stored_id:
            self._layout.installation_file.write_text(f"{new_cluster_id()}\n", encoding="utf-8")
        self._report("preparing Kafka and Postgres")
        with ThreadPoolExecutor() as pool:
            brokers, postgres = (
                pool.submit(self._kafka.prepare),
                pool.submit(self._postgres.prepare),
            )
        return [*brokers.result(), postgres.result(), *self._services(), self._gateway()]

    def _start_servers(self, started: float) -> None:
        brokers = [node.name for node in self._kafka.nodes]
        self._report("starting Kafka and Postgres")
        for name in (*brokers, "postgres"):
            self._start(name)
        self._wait_for(
            "postgres",
            lambda: None if self._postgres.is_ready() else "no answer",
            started,
        )
        self._wait_for(
            brokers[-1],
            lambda: None if asyncio.run(self._kafka.is_ready()) else "no answer",
            started,
        )

    def _prepare_servers(self) -> None:
        # Topics first: if the old ones are not drained, the previous version must run again, and
        # it needs its own schema
        try:
            created = asyncio.run(create_topics(self._kafka_settings()))
        except NotDrained as error:
            raise LocalError(
                f"{error}\nRun make down before you start the previous version."
            ) from None
        for remark in describe_creation(created):
            self._report(remark)
        migrate(self._postgres.url, {role: self._state.passwords[role] for role in ROLES})
        write_env(
            self._layout.env_file, self._environment() | asyncio.run(self._ensure_workspace())
        )

    def _start_services(self, started: float) -> None:
        self._report("starting the services")
        for name in (*SERVICES, "gateway"):
            self._start(name)
        for name in SERVICES:
            self._wait_for(name, partial(self._find_service_problem, name, 1), started)
        self._wait_for(
            "gateway", partial(self._find_service_problem, "gateway", GATEWAY_REQUESTS), started
        )
        self._wait_for("gateway", lambda: gateway.find_problem(self.base_url), started)

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
        return [self._state.ports[each] for each in names if each in self._state.ports]

    def _find_service_problem(self, name: str, requests: int) -> str | None:
        if not self._stored_id:
            return None  # an older version started the stack, without an id
        port, installation = self._state.ports[name], self._installation
        problems = (find_service_problem(name, port, installation) for _ in range(requests))
        return next(filter(None, problems), None)

    def _wait_for(self, name: str, find_problem: Callable[[], str | None], started: float) -> None:
        """Waits until `find_problem` returns None. Raises LocalError READY_SECONDS after `started`.

        `started` is the time on the monotonic clock when the command began to start processes.
        """
        notice_at, is_reported = time.monotonic() + NOTICE_SECONDS, False
        while (problem := find_problem()) is not None:
            if RECOVER in problem:
                raise LocalError(POSITIONS_REFUSED)
            self._require_lasting_processes()
            if time.monotonic() > started + READY_SECONDS:
                raise LocalError(self._describe_timeout(name, problem))
            if time.monotonic() > notice_at and not is_reported:
                self._report(f"still waiting for {name}: {problem}")
                is_reported = True
            time.sleep(POLL_SECONDS)

    def _require_lasting_processes(self) -> None:
        """Raises ExitedAtStart if a process has exited several times since this command began."""
        for name, pid in self._supervisor.pids().items():
            self._seen_pids[name].add(pid)
            if len(self._seen_pids[name]) > MAX_EXITS:
                log = self._layout.log_file(name)
                lines = [f"{name} exits again and again. Last lines of {log}:"]
                raise ExitedAtStart(
                    "\n".join([*lines, *self._read_last_lines(name)]),
                    f"If a setting is the cause, correct {self._layout.settings_file}.",
                )

    def _read_last_lines(self, name: str) -> list[str]:
        log = self._layout.log_file(name)
        return (
            log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:] if log.exists() else []
        )

    def _describe_timeout(self, name: str, problem: str) -> str:
        log = self._layout.log_file(name)
        states = ", ".join(f"{program} {state}" for program, state in sorted(self.states().items()))
        return "\n".join(
            [
                f"{name} was not ready within {READY_SECONDS:.0f} s: {problem}",
                f"processes: {states}",
                f"last lines of {log}:",
                *self._read_last_lines(name),
                f"Look for the cause in the logs in {log.parent}. Then run make down and make up.",
                "If you don't need the data: make clean, then make up.",
            ]
        )

    async def _ensure_workspace(self) -> dict[str, str]:
        """Returns id and key of the workspace in `.pinflow/env`. Creates it the first time."""
        stored = self.env()
        settings = DatabaseSettings(database_url=SecretStr(self._postgres.url))
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

    @cached_property
    def _settings_file(self) -> SettingsFile:
        return SettingsFile(self._layout.settings_file)

    @cached_property
    def _state(self) -> StackState:
        return StackState.load(self._layout.state_file, self._brokers)

    @property
    def _installation(self) -> str:
        """The id that the services' answers carry.

        It contains the directory's hash, because a copied checkout has the same stored id.
        """
        return f"{self._stored_id}-{self._layout.digest}"

    @property
    def _stored_id(self) -> str:
        """The random id of the stack and of its Kafka cluster. Empty until the first start."""
        file = self._layout.installation_file
        return file.read_text(encoding="utf-8").strip() if file.exists() else ""

    @property
    def _kafka(self) -> KafkaCluster:
        return KafkaCluster.from_ports(
            self._layout.directory,
            select_ports(self._state.brokers, self._state.ports),
            cluster_id=self._stored_id or None,
        )

    @property
    def _postgres(self) -> Postgres:
        return Postgres(
            self._layout.directory / "postgres",
            self._state.ports["postgres"],
            self._state.passwords[OWNER],
        )

    def _gateway(self) -> Program:
        return gateway.gateway_program(
            self._state.ports["gateway"],
            self._state.ports,
            self._layout.directory / "gateway",
            self._settings_file.gateway_variables,
        )

    def _services(self) -> list[Program]:
        return [service_program(name, self._service_environment(name)) for name in SERVICES]

    def _kafka_settings(self) -> KafkaSettings:
        """Returns the connection, and the settings of topics that the services have."""
        environment = self._service_environment(DEFAULT_SERVICE.name)
        with service_environment(environment):
            return KafkaSettings()

    def _environment(self) -> dict[str, str]:
        return {
            "PINFLOW_BASE_URL": self.base_url,
            "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "PINFLOW_DATABASE_URL": self._postgres.url,
        }

    def _service_environment(self, name: str) -> dict[str, str]:
        local = {
            SERVICES[other].url_variable: f"http://127.0.0.1:{self._state.ports[other]}"
            for other in CHECKED_SERVICES
        }
        role = SERVICES[name].role
        url = self._postgres.build_url(role, self._state.passwords[role])
        settings = {
            **self._environment(),
            **local,
            "PINFLOW_DATABASE_URL": url,
            "PINFLOW_PORT": str(self._state.ports[name]),
            "PINFLOW_INSTALLATION": self._installation,
            "PINFLOW_INTERNAL_TOKEN": self._state.passwords[INTERNAL],
        }
        return {**self._settings_file.values, **settings}
