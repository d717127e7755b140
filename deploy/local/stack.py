"""The whole stack: up, down, status, clean."""

import asyncio
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
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
from deploy.local.state import OWNER, StackState
from deploy.local.supervision import Supervisor
from deploy.migrations import migrate
from deploy.migrations.runner import ROLES
from deploy.old_topics import NotDrained
from deploy.services import CHECKED_SERVICES, SERVICES
from deploy.topics import create_topics, describe_creation
from shared.access.repository import AccessRepository
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings, KafkaSettings

READY_SECONDS = 240.0
"""Deadline for all processes. When three stacks started together on two busy cores, one process
alone needed more than 90 s."""
NOTICE_SECONDS = 20.0
"""Seconds until the command says what it waits for. Most starts are quicker."""
POLL_SECONDS = 0.1
RECOVER = "pinflow recover"
"""Readiness names this command if a service waits for an operator."""
POSITIONS_REFUSED = (
    "Everything runs, but Kafka does not fit the data in Postgres: one of them is an older copy, "
    "or "
    "another one. Services wait until you accept the loss. See it with: .venv/bin/pinflow recover "
    "(docs/how-to/restore-a-backup.md)"
)
OLDER_STACK = (
    "An older version of Pinflow runs here, without some of the services. Nothing was changed. Run "
    "make down, then make up."
)
LOG_LINES_SHOWN = 8
STARTED = {"STARTING", "RUNNING", "BACKOFF"}
"""supervisor's states of a program that it keeps alive."""
GATEWAY_ASKED = 16
"""Requests that must all find our gateway. Caddy lets two listen on one port (SO_REUSEPORT), and
each connection goes to either."""

WORKSPACE = "Local"
ACCOUNTS, BOARDS = 2, 5

Say = Callable[[str], None]


class Stack:
    """The stack of one directory. Every method may raise LocalError, whose message says what to do
    next.

    `brokers`: how many are asked for; None for as many as there are.
    """

    def __init__(self, layout: Layout, say: Say, brokers: int | None = None) -> None:
        self._layout = layout
        self._brokers = brokers
        self._say = say
        self._supervisor = Supervisor(layout)

    def up(self) -> bool:
        """Start what isn't running, and wait until all of it works.

        Returns whether anything had to be started.
        """
        # Reserved until the last process listens
        with self._alone(), PortReservations.open() as reservations:
            was_running = self._supervisor.is_running()
            if not was_running:
                self._begin(reservations)
            before = self._supervisor.states()
            if not {*SERVICES, "gateway"} <= before.keys():
                raise LocalError(OLDER_STACK)
            try:
                started = time.monotonic()
                self._start_servers(started)
                self._prepare_servers()
                self._start_services(started)
            except ForeignServer as error:
                raise LocalError(self._without_the_ports(error, was_running=was_running)) from None
            return not was_running or any(state != "RUNNING" for state in before.values())

    def _without_the_ports(self, error: ForeignServer, *, was_running: bool) -> str:
        """Says what to do next. Stops what was started: two gateways could share a port."""
        if was_running:
            return f"{error}\nRun make down, then make up: it chooses other ports."
        self._supervisor.shut_down()
        return f"{error}\nNothing was left running. Run make up again: it chooses other ports."

    def down(self) -> bool:
        """Stop everything; the data stays. Returns whether anything was running."""
        with self._alone():
            was_running = self._supervisor.is_running()
            if was_running:
                self._supervisor.shut_down()
            strays = self._supervisor.end_strays()
            for file in (self._layout.directory / "run").glob("*.pid"):
                file.unlink()
            self._layout.supervisor_socket.unlink(missing_ok=True)
            return was_running or bool(strays)

    def clean(self) -> None:
        """Stop everything and delete the data."""
        if not self._layout.directory.exists():
            return
        self.down()
        self._postgres.remove()
        shutil.rmtree(self._layout.directory)

    def states(self) -> dict[str, str]:
        """What each process does; empty when the stack is down."""
        return self._supervisor.states() if self._supervisor.is_running() else {}

    def env(self) -> dict[str, str]:
        """What `.pinflow/env` says."""
        return read_env(self._layout.env_file)

    @property
    def directory(self) -> Path:
        return self._layout.directory

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._state.ports['gateway']}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time: a second one waits for the first."""
        self._layout.create_directories()
        with (self._layout.directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _begin(self, reservations: PortReservations) -> None:
        for name in self._supervisor.end_strays():
            self._say(f"ended a {name} that had lost its supervisor")
        wanted = dict(self._state.ports)
        self._state.ports = ports.choose(
            wanted, lambda port: reservations.acquire(port) and ports.is_free(port)
        )
        for name, port in self._state.ports.items():
            if port != wanted[name]:
                self._say(f"port {wanted[name]} is taken: {name.replace('_', ' ')} is on {port}")
        self._state.save(self._layout.state_file)
        if not self._stored_id:
            self._layout.installation_file.write_text(f"{new_cluster_id()}\n", encoding="utf-8")
        self._say("preparing Kafka and Postgres")
        with ThreadPoolExecutor() as pool:
            brokers, postgres = (
                pool.submit(self._kafka.prepare),
                pool.submit(self._postgres.prepare),
            )
        self._supervisor.launch(
            [*brokers.result(), postgres.result(), *self._services(), self._gateway()]
        )

    def _start_servers(self, started: float) -> None:
        brokers = [node.name for node in self._kafka.nodes]
        self._say("starting Kafka and Postgres")
        for name in (*brokers, "postgres"):
            self._start(name)
        self._wait_for(
            "postgres",
            lambda: None if self._postgres.is_ready() else "it does not answer",
            started,
        )
        self._wait_for(
            brokers[-1],
            lambda: None if asyncio.run(self._kafka.is_ready()) else "it does not answer",
            started,
        )

    def _prepare_servers(self) -> None:
        # Topics first: if the old ones are not drained, the version before needs the old schema
        try:
            created = asyncio.run(create_topics(self._kafka_settings()))
        except NotDrained as error:
            raise LocalError(f"{error}\nRun `make down` before you start that version.") from None
        for remark in describe_creation(created):
            self._say(remark)
        migrate(self._postgres.url, {role: self._state.passwords[role] for role in ROLES})
        write_env(self._layout.env_file, self._environment() | asyncio.run(self._workspace()))

    def _start_services(self, started: float) -> None:
        self._say("starting the services")
        for name in (*SERVICES, "gateway"):
            self._start(name)
        for name in SERVICES:
            self._wait_for(name, partial(self._service_trouble, name, 1), started)
        self._wait_for("gateway", partial(self._service_trouble, "gateway", GATEWAY_ASKED), started)
        self._wait_for("gateway", lambda: gateway.find_problem(self.base_url), started)

    def _start(self, name: str) -> None:
        """Starts a program unless it runs. Raises ForeignServer if its port is taken."""
        if self._supervisor.states()[name] not in STARTED:
            taken = [port for port in self._ports_of(name) if not ports.is_free(port)]
            if taken:
                raise ForeignServer(
                    f"Another program took port {taken[0]}, of this stack's {name}."
                )
        self._supervisor.start(name)

    def _ports_of(self, name: str) -> list[int]:
        names = (name, f"{name}_controller")  # brokers have both
        return [self._state.ports[each] for each in names if each in self._state.ports]

    def _service_trouble(self, name: str, requests: int) -> str | None:
        if not self._stored_id:
            return None  # an older version started it
        port, installation = self._state.ports[name], self._installation
        troubles = (find_service_problem(name, port, installation) for _ in range(requests))
        return next(filter(None, troubles), None)

    def _wait_for(self, name: str, trouble: Callable[[], str | None], started: float) -> None:
        """`started`: when the command began to start processes, by the monotonic clock."""
        notice_at, is_reported = time.monotonic() + NOTICE_SECONDS, False
        while (what := trouble()) is not None:
            if RECOVER in what:
                raise LocalError(POSITIONS_REFUSED)
            if time.monotonic() > started + READY_SECONDS:
                raise LocalError(self._not_ready(name, what))
            if time.monotonic() > notice_at and not is_reported:
                self._say(f"still waiting for {name}: {what}")
                is_reported = True
            time.sleep(POLL_SECONDS)

    def _not_ready(self, name: str, what: str) -> str:
        log = self._layout.log_file(name)
        last = (
            log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:] if log.exists() else []
        )
        states = ", ".join(f"{program} {state}" for program, state in sorted(self.states().items()))
        advice = (
            f"Look into {log.parent}, then: make down && make up. With make clean the data goes, "
            "too."
        )
        return "\n".join(
            [
                f"{name} was not ready within {READY_SECONDS:.0f} s: {what}",
                f"processes: {states}",
                f"{log} ends:",
                *last,
                advice,
            ]
        )

    async def _workspace(self) -> dict[str, str]:
        """The workspace that `.pinflow/env` names, made the first time."""
        known = self.env()
        settings = DatabaseSettings(database_url=SecretStr(self._postgres.url))
        database = Database.from_settings(settings, application="pinflow-local")
        try:
            if "PINFLOW_API_KEY" in known and await AccessRepository(database).workspace_exists(
                UUID(known["PINFLOW_WORKSPACE_ID"])
            ):
                return {name: known[name] for name in ("PINFLOW_API_KEY", "PINFLOW_WORKSPACE_ID")}
            made = await create_workspace(
                OperatorRepository(database), WORKSPACE, accounts=ACCOUNTS, boards=BOARDS
            )
        finally:
            await database.dispose()
        return {"PINFLOW_API_KEY": made.api_key, "PINFLOW_WORKSPACE_ID": str(made.id)}

    @cached_property
    def _state(self) -> StackState:
        return StackState.load(self._layout.state_file, self._brokers)

    @property
    def _installation(self) -> str:
        """The id that services tell. A copied checkout has the same file but another directory."""
        return f"{self._stored_id}-{self._layout.digest}"

    @property
    def _stored_id(self) -> str:
        """A random id, also of the Kafka cluster. Empty until this version starts the stack."""
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
            self._state.ports["gateway"], self._state.ports, self._layout.directory / "gateway"
        )

    def _services(self) -> list[Program]:
        return [service_program(name, self._service_environment(name)) for name in SERVICES]

    def _kafka_settings(self) -> KafkaSettings:
        return KafkaSettings(kafka_bootstrap_servers=self._kafka.bootstrap_servers)

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
        own = {
            **self._environment(),
            **local,
            "PINFLOW_DATABASE_URL": url,
            "PINFLOW_PORT": str(self._state.ports[name]),
            "PINFLOW_INSTALLATION": self._installation,
        }
        return {**read_env(self._layout.settings_file), **own}
