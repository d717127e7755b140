"""Runs the local stack and the `pinflow` command as a user does, in a temporary directory."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from typer.testing import CliRunner, Result

from deploy.cli.environment import read_env
from deploy.cli.main import app
from deploy.local import gateway
from deploy.local.kafka import KafkaCluster, NodePorts, new_cluster_id
from deploy.local.layout import CHECKOUT, HOME_VARIABLE, Layout
from deploy.local.ownership import ForeignServer
from deploy.local.postgres import Postgres
from deploy.local.reservations import PortReservations
from deploy.services import SERVICES
from shared.kafka.admin import admin_client
from shared.runtime.settings import KafkaSettings
from tests.support.factories import submitted_row
from tests.support.kafka import are_replicas_in_sync
from tests.support.page_examples import build_script, find_mismatches, read_examples
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

PROCESSES = {"kafka", "postgres", "gateway", *SERVICES}
COMMAND_SECONDS = 300
"""Timeout of a command. `up` takes less."""
OLD_TOPIC = "pinflow.imports.v1"


class Shell:
    def __init__(self, home: Path) -> None:
        self.layout = Layout(home / ".pinflow")
        self._home = home

    def local(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return self._run([sys.executable, "-m", "deploy.local", *command], CHECKOUT)

    def pinflow(
        self, *arguments: str, stdin: str | None = None, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Runs `pinflow` in the folder whose `.pinflow/env` it reads."""
        return self._run(
            [str(Path(sys.executable).with_name("pinflow")), *arguments],
            self._home,
            stdin,
            variables,
        )

    def operate(self, *arguments: str, **variables: str) -> Result:
        """Runs `pinflow` in this process: a new one takes 0.8 s of CPU time to start."""
        return CliRunner().invoke(app, arguments, env={**self.env, **variables})

    def run_in_checkout(self, *command: str, stdin: str) -> str:
        """Runs an example as in a checkout, with the stack's variables, and returns its output."""
        for name, target in ((".venv", Path(sys.prefix)), ("docs", CHECKOUT / "docs")):
            if not (self._home / name).exists():
                (self._home / name).symlink_to(target)
        result = self._run(list(command), self._home, stdin, self.env)
        assert result.returncode == 0, result.stderr
        return result.stdout

    @contextmanager
    def in_background(self, command: str) -> Iterator["subprocess.Popen[str]"]:
        """Runs a command on the stack beside the block. Kills it at the end if it still runs."""
        with subprocess.Popen(
            [sys.executable, "-m", "deploy.local", command],
            cwd=CHECKOUT,
            env={**_environment_without_settings(), HOME_VARIABLE: str(self.layout.directory)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            try:
                yield running
            finally:
                running.kill()

    @contextmanager
    def starting(self) -> Iterator["subprocess.Popen[str]"]:
        """Runs `up` in the background. In the block Kafka and Postgres listen, but no service.

        `up` is stopped there, or a fast machine would end it first. SIGCONT lets it go on.
        """
        with self.in_background("up") as up:
            wait_until(
                lambda: all(is_listening(self.ports[name]) for name in ("kafka", "postgres")),
                seconds=COMMAND_SECONDS,
            )
            up.send_signal(signal.SIGSTOP)
            yield up

    def _run(
        self,
        command: list[str],
        directory: Path,
        stdin: str | None = None,
        variables: dict[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=directory,
            env={
                **_environment_without_settings(),
                HOME_VARIABLE: str(self.layout.directory),
                **(variables or {}),
            },
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    @property
    def env(self) -> dict[str, str]:
        return read_env(self.layout.env_file)

    @property
    def ports(self) -> dict[str, int]:
        ports: dict[str, int] = json.loads(self.layout.state_file.read_text("utf-8"))["ports"]
        return ports

    def pid(self, name: str) -> int:
        return int(self.layout.pid_file(name).read_text())


def _environment_without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PINFLOW_")}


def wait_until_it_waits(command: "subprocess.Popen[str]") -> None:
    """Reads the command's output until it says that it waits for another one."""
    assert command.stdout is not None
    assert "waiting for another make up" in command.stdout.readline()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stops a process while the body runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("home"))
    shell.layout.create_directories()
    shell.layout.settings_file.write_text(
        "PINFLOW_WEBHOOK_ALLOW_PRIVATE_ADDRESSES=true\n", encoding="utf-8"
    )
    up = shell.local("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield shell
    clean = shell.local("clean")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert list(shell.layout.directory.iterdir()) == [shell.layout.settings_file]


@pytest.fixture(scope="module")
def destination(shell: Shell) -> dict[str, str]:
    """The ids of an account and one of its boards, as fields of a row."""
    account = json.loads(shell.pinflow("accounts", "list", "--json").stdout)[0]["id"]
    board = json.loads(shell.pinflow("boards", "list", account, "--json").stdout)[0]["board_id"]
    return {"account_id": account, "board_id": board}


class OtherServer(BaseHTTPRequestHandler):
    """A web server that answers every GET with 200, but is not Pinflow."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome to the hotel</html>")

    def log_message(self, *_: object) -> None: ...


async def read_replication_factors(servers: str, topic: str) -> set[int]:
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=servers)) as admin:
        (described,) = await admin.describe_topics([topic])
    return {len(partition["replicas"]) for partition in described["partitions"]}


def write_rows(shell: Shell, name: str, rows: list[dict[str, Any]]) -> str:
    file = shell.layout.directory / name
    file.write_text(json.dumps(rows), encoding="utf-8")
    return str(file)


def test_up_runs_every_process_under_its_pid_and_writes_the_env(shell: Shell) -> None:
    assert {name for name in PROCESSES if psutil.pid_exists(shell.pid(name))} == PROCESSES
    assert all(shell.layout.log_file(name).exists() for name in PROCESSES)
    names = {
        "PINFLOW_BASE_URL",
        "PINFLOW_API_KEY",
        "PINFLOW_WORKSPACE_ID",
        "PINFLOW_KAFKA_BOOTSTRAP_SERVERS",
        "PINFLOW_DATABASE_URL",
    }
    assert names <= set(shell.env)
    assert shell.layout.env_file.stat().st_mode & 0o077 == 0
    # A check of a busy service may take longer than its time limit
    wait_until(lambda: gateway.find_problem(shell.env["PINFLOW_BASE_URL"]) is None)


def test_a_second_up_changes_nothing(shell: Shell) -> None:
    before = {name: shell.pid(name) for name in PROCESSES}, shell.env
    again = shell.local("up")
    assert "was already up" in again.stdout
    assert ({name: shell.pid(name) for name in PROCESSES}, shell.env) == before


def test_services_get_the_variables_of_the_settings_file(shell: Shell) -> None:
    webhook = {"url": "http://127.0.0.1:8787/", "secret": "sixteen characters", "is_enabled": False}
    headers = {"X-API-Key": shell.env["PINFLOW_API_KEY"]}
    made = httpx.post(
        f"{shell.env['PINFLOW_BASE_URL']}/v1/webhooks",
        json=webhook,
        headers=headers,
        timeout=40,
        trust_env=False,
    )
    assert made.status_code == 201, (
        made.text
    )  # the default settings refuse an address of this machine


@contextmanager
def settings_line(shell: Shell, line: str) -> Iterator[None]:
    before = shell.layout.settings_file.read_text(encoding="utf-8")
    shell.layout.settings_file.write_text(f"{before}{line}\n", encoding="utf-8")
    try:
        yield
    finally:
        shell.layout.settings_file.write_text(before, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_up_with_a_misspelled_setting_starts_nothing(shell: Shell) -> None:
    assert shell.local("down").returncode == 0
    with settings_line(shell, "PINFLOW_LOG_LEVL=DEBUG"):
        up = shell.local("up")
    assert (up.returncode, "Did you mean PINFLOW_LOG_LEVEL?" in up.stderr) == (1, True), up.stderr
    assert shell.local("status").returncode == 1
    assert shell.local("up").returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_up_ends_when_a_program_exits_again_and_again(shell: Shell) -> None:
    assert shell.local("down").returncode == 0
    with settings_line(shell, "PYTHONHOME=/nowhere"):
        up = shell.local("up")
    assert (up.returncode, "exits again and again" in up.stderr) == (1, True), up.stderr
    assert "ModuleNotFoundError: No module named 'encodings'" in up.stderr
    assert f"correct {shell.layout.settings_file}. Run make up again." in up.stderr
    assert shell.local("status").returncode == 1
    assert shell.local("up").returncode == 0


def test_a_service_that_dies_is_started_again(shell: Shell) -> None:
    before = shell.pid("publisher")
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: (
            shell.pid("publisher") != before
            and gateway.find_problem(shell.env["PINFLOW_BASE_URL"]) is None
        ),
        seconds=COMMAND_SECONDS,
    )


@pytest.mark.slow
def test_a_stack_of_three_brokers_avoids_taken_ports(shell: Shell, tmp_path: Path) -> None:
    """A second stack starts while the first one runs."""
    other = Shell(tmp_path)
    try:
        up = other.local("up", "--brokers", "3")
        assert up.returncode == 0, up.stdout + up.stderr
        assert "is taken" in up.stdout
        assert other.env["PINFLOW_BASE_URL"] != shell.env["PINFLOW_BASE_URL"]
        servers = other.env["PINFLOW_KAFKA_BOOTSTRAP_SERVERS"]
        assert len(set(servers.split(",")) - {shell.env["PINFLOW_KAFKA_BOOTSTRAP_SERVERS"]}) == 3
        wait_until(lambda: asyncio.run(are_replicas_in_sync(servers)), seconds=COMMAND_SECONDS)
        assert asyncio.run(read_replication_factors(servers, "pinflow.imports.v2")) == {3}
        with_one_broker = other.local("up", "--brokers", "1")
        assert (with_one_broker.returncode, "make clean" in with_one_broker.stderr) == (1, True)
        before = other.pid("kafka-2")
        os.kill(before, signal.SIGKILL)
        wait_until(
            lambda: other.pid("kafka-2") != before and psutil.pid_exists(other.pid("kafka-2")),
            seconds=COMMAND_SECONDS,
        )
    finally:
        assert other.local("clean").returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stack_with_the_simulator_connects_its_accounts_once_and_keeps_the_choice(
    tmp_path: Path,
) -> None:
    stack = Shell(tmp_path)
    try:
        up = stack.local("up", "--pinterest", "simulated")
        assert (up.returncode, "Simulator of Pinterest: " in up.stdout) == (0, True), up.stderr
        assert psutil.pid_exists(stack.pid("simulator"))
        assert stack.layout.token_keys_file.stat().st_mode & 0o077 == 0
        first, second = read_connections(stack)
        assert (first["username"], second["username"]) == ("rosa", "tom")
        assert (first["connection"], second["connection"]) == ("connected", "connected")
        users = httpx.get(
            f"{stack.env['PINFLOW_PINTEREST_SIMULATOR_URL']}/_simulator/accounts",
            timeout=40,
            trust_env=False,
        ).json()
        boards = json.loads(stack.operate("boards", "list", first["id"], "--json").stdout)
        assert {board["board_id"] for board in boards} == set(users[0]["boards"])
        other = stack.local("up", "--pinterest", "off")
        assert (other.returncode, "make down, then make up PINTEREST=off" in other.stderr) == (
            1,
            True,
        )
        require_delivery_without_secrets(stack)
        require_delivery_after_a_kill(stack, first["id"], boards[0]["board_id"])
        owner = stack.operate("accounts", "connect", "--app-owner", "--account", first["id"])
        assert owner.exit_code == 0, owner.stderr
        assert stack.operate("accounts", "disconnect", second["id"], "--yes").exit_code == 0
        assert stack.local("down").returncode == 0
        again = stack.local("up")
        assert again.returncode == 0, again.stdout + again.stderr
        connections = [account["connection"] for account in read_connections(stack)]
        assert connections == ["connected", "disconnected"]
        refreshed = stack.operate("accounts", "refresh", first["id"], "--json")
        assert json.loads(refreshed.stdout)["health_status"] == "healthy", refreshed.stderr
        assert stack.local("down").returncode == 0
        without = stack.local("up", "--pinterest", "off")
        assert without.returncode == 0, without.stdout + without.stderr
        assert "PINFLOW_PINTEREST_SIMULATOR_URL" not in stack.env
        assert not stack.layout.pid_file("simulator").exists()
        assert not stack.layout.pid_file("delivery").exists()
    finally:
        assert stack.local("clean").returncode == 0


def require_delivery_without_secrets(stack: Shell) -> None:
    """The delivery process knows the mode and the simulator, and no secret of the app."""
    variables = psutil.Process(stack.pid("delivery")).environ()
    assert variables["PINFLOW_PINTEREST_MODE"] == "simulated"
    url = stack.env["PINFLOW_PINTEREST_SIMULATOR_URL"]
    assert variables["PINFLOW_PINTEREST_SIMULATOR_URL"] == url
    assert {"PINFLOW_INTERNAL_TOKEN", "PINFLOW_ACCESS_URL"} <= variables.keys()
    assert [name for name in variables if "SECRET" in name or "TOKEN_KEYS" in name] == []
    assert "delivery     RUNNING" in stack.local("status").stdout


def require_delivery_after_a_kill(stack: Shell, account: str, board: str) -> None:
    """Rows of a connected account are made on its board once, although delivery is killed."""
    rows = [
        submitted_row(account_id=account, board_id=board, idempotency_key=f"sent-{number}")
        for number in range(5)
    ]
    imported = stack.pinflow("import", write_rows(stack, "sent.json", rows))
    assert imported.returncode == 0, imported.stderr
    os.kill(stack.pid("delivery"), signal.SIGKILL)

    def list_published() -> list[dict[str, Any]]:
        listed = stack.operate("pins", "list", "--status", "published", "--json")
        return [pin for pin in json.loads(listed.stdout) if pin["pinterest_pin_id"]]

    # The lease of the killed process ends after 30 s, and a lost answer is confirmed after minutes
    wait_until(lambda: len(list_published()) == 5, seconds=COMMAND_SECONDS)
    url = stack.env["PINFLOW_PINTEREST_SIMULATOR_URL"]
    made = httpx.get(f"{url}/_simulator/pins?board_id={board}", timeout=40, trust_env=False).json()
    assert sorted(pin["id"] for pin in made) == sorted(
        pin["pinterest_pin_id"] for pin in list_published()
    )
    assert stack.operate("deliveries").exit_code == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_delivers_its_pins_to_the_simulator_and_shows_their_ids(tmp_path: Path) -> None:
    stack = Shell(tmp_path)
    try:
        demo = stack.local("demo")
        assert demo.returncode == 0, demo.stdout + demo.stderr
        assert "489 created, 1 existing, 10 failed" in demo.stdout
        assert "477 published, 2 failed, 1 deferred" in demo.stdout
        assert "media_rejected" in demo.stdout
        assert "media_unreachable" in demo.stdout
        assert "Stoneware vase for the hallway, no. 345" in demo.stdout
        assert "6000 writes a minute" in demo.stdout
        assert demo.stdout.count("/_simulator/pins?id=") == 3
        assert stack.local("status").returncode == 1
        with closing(sqlite3.connect(stack.layout.simulator_file)) as database:
            (made,) = database.execute("select count(*) from pins").fetchone()
        assert made == 477
        again = stack.local("demo")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "nothing was published twice" in " ".join(again.stdout.split())
        assert "477 published, 2 failed, 1 deferred" in again.stdout
    finally:
        assert stack.local("clean").returncode == 0


def read_connections(stack: Shell) -> list[dict[str, Any]]:
    """Returns the workspace's accounts, the oldest first, with their connections."""
    accounts: list[dict[str, Any]] = json.loads(stack.operate("accounts", "list", "--json").stdout)
    return accounts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stacks_started_at_the_same_moment_share_no_port(shell: Shell, tmp_path: Path) -> None:
    stacks = [Shell(tmp_path / name) for name in ("one", "two")]
    try:
        with ThreadPoolExecutor() as pool:
            ups = list(pool.map(lambda stack: stack.local("up"), stacks))
        for up in ups:
            assert up.returncode == 0, up.stdout + up.stderr
        ports = [port for stack in (shell, *stacks) for port in stack.ports.values()]
        assert len(ports) == len(set(ports))
        urls = [stack.env["PINFLOW_BASE_URL"] for stack in stacks]
        keys = [stack.env["PINFLOW_API_KEY"] for stack in stacks]
        for _ in range(10):  # two gateways on one port would alternate
            answers = [[request_status(url, key) for key in keys] for url in urls]
            assert answers == [[200, 401], [401, 200]]
    finally:
        with ThreadPoolExecutor() as pool:
            cleans = list(pool.map(lambda stack: stack.local("clean"), stacks))
        assert [clean.returncode for clean in cleans] == [0, 0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stack_steps_around_the_ports_of_one_that_is_starting(
    shell: Shell, tmp_path: Path
) -> None:
    """The first stack's services do not listen yet when the second one chooses its ports."""
    second = Shell(tmp_path)
    second.layout.create_directories()
    assert shell.local("down").returncode == 0
    second.layout.state_file.write_text(json.dumps({"ports": shell.ports}), encoding="utf-8")
    try:
        with shell.starting() as first_up:
            second_up = second.local("up")
            first_up.send_signal(signal.SIGCONT)
            first_output, _ = first_up.communicate()
        assert (first_up.returncode, "Pinflow is up" in first_output) == (0, True), first_output
        assert second_up.returncode == 0, second_up.stdout + second_up.stderr
        assert not set(shell.ports.values()) & set(second.ports.values())
        stacks = (shell, second)
        keys = [stack.env["PINFLOW_API_KEY"] for stack in stacks]
        urls = [stack.env["PINFLOW_BASE_URL"] for stack in stacks]
        answers = [[request_status(url, key) for key in keys] for url in urls]
        assert answers == [[200, 401], [401, 200]]
    finally:
        assert second.local("clean").returncode == 0
        assert shell.local("up").returncode == 0


def test_a_running_stack_keeps_its_ports_reserved(shell: Shell) -> None:
    """A service that is started again does not listen for some seconds."""
    with PortReservations.open() as reservations:
        assert not any(reservations.acquire(port) for port in shell.ports.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_start_that_was_killed_keeps_its_ports_and_is_continued(shell: Shell) -> None:
    assert shell.local("down").returncode == 0
    with shell.starting() as up:
        up.kill()
        up.wait()
        before = shell.ports
        with PortReservations.open() as reservations:
            assert not any(reservations.acquire(port) for port in before.values())
    again = shell.local("up")
    assert (again.returncode, "Pinflow is up" in again.stdout) == (0, True), again.stderr
    assert shell.ports == before


@pytest.mark.slow
def test_a_second_up_in_one_directory_waits_for_the_first(shell: Shell) -> None:
    assert shell.local("down").returncode == 0
    with shell.starting() as first, shell.in_background("up") as second:
        wait_until_it_waits(second)
        first.send_signal(signal.SIGCONT)
        output, _ = first.communicate()
        second_output, _ = second.communicate()
    assert (first.returncode, "Pinflow is up" in output) == (0, True), output
    assert (second.returncode, "was already up" in second_output) == (0, True), second_output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_down_waits_for_a_start_and_then_stops_everything(shell: Shell) -> None:
    assert shell.local("down").returncode == 0
    with shell.starting() as up, shell.in_background("down") as down:
        wait_until_it_waits(down)
        up.send_signal(signal.SIGCONT)
        output, _ = up.communicate()
        down_output, _ = down.communicate()
    assert (up.returncode, "Pinflow is up" in output) == (0, True), output
    assert (down.returncode, "Pinflow is stopped" in down_output) == (0, True), down_output
    assert shell.local("status").returncode == 1
    with PortReservations.open() as reservations:
        assert all(reservations.acquire(port) for port in shell.ports.values())
    assert shell.local("up").returncode == 0


def test_up_refuses_if_another_program_has_a_services_port(shell: Shell) -> None:
    port = shell.ports["publisher"]
    with frozen(shell.pid("supervisor")):  # or the publisher could listen again first
        os.kill(shell.pid("publisher"), signal.SIGKILL)
        taken = bind_server(port)
    with taken as server:  # supervisor starts the publisher again, which can't listen
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        up = shell.local("up")
        server.shutdown()
    assert up.returncode == 1, up.stdout
    assert f"Another program answers at http://127.0.0.1:{port}" in up.stderr
    assert "make down, then make up" in up.stderr
    up = shell.local("up")
    assert up.returncode == 0, up.stdout + up.stderr


class ReusingServer(HTTPServer):
    allow_reuse_address = True


def bind_server(port: int) -> HTTPServer:
    """Listens on the port as soon as the killed process has released it."""
    servers: list[HTTPServer] = []

    def bind() -> bool:
        with suppress(OSError):
            servers.append(ReusingServer(("127.0.0.1", port), OtherServer))
        return bool(servers)

    wait_until(bind)
    return servers[0]


def test_servers_with_other_data_are_reported_as_foreign(shell: Shell, tmp_path: Path) -> None:
    ports = shell.ports
    kafka = KafkaCluster.from_ports(
        tmp_path, [NodePorts(ports["kafka"], ports["kafka_controller"])]
    )
    identity = tmp_path / "kafka" / "data" / "meta.properties"
    identity.parent.mkdir(parents=True)
    identity.write_text(f"cluster.id={new_cluster_id()}\n", encoding="utf-8")
    # A busy server may have no answer in time: then it is not ready yet
    with pytest.raises(ForeignServer, match="its cluster id is different"):
        wait_until(lambda: asyncio.run(kafka.is_ready()))
    # A copied checkout has the same password
    password = json.loads(shell.layout.state_file.read_text(encoding="utf-8"))["passwords"]["owner"]
    postgres = Postgres(tmp_path / "postgres", ports["postgres"], password)
    with pytest.raises(ForeignServer, match="its data directory is different"):
        wait_until(postgres.is_ready)


def request_status(base_url: str, key: str) -> int:
    return httpx.get(
        f"{base_url}/v1/pinterest/accounts",
        headers={"X-API-Key": key},
        timeout=40,
        trust_env=False,
    ).status_code


@pytest.mark.slow
def test_down_leaves_no_process_and_up_finds_the_data_again(
    shell: Shell, destination: dict[str, str]
) -> None:
    file = write_rows(shell, "kept.json", [submitted_row(**destination, idempotency_key="kept")])
    assert shell.pinflow("import", file).returncode == 0
    pids = [shell.pid(name) for name in (*PROCESSES, "supervisor")]
    down = shell.local("down")
    assert down.returncode == 0, down.stderr
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert "not running" in shell.local("down").stdout
    assert shell.local("status").returncode == 1
    assert shell.local("up").returncode == 0
    again = shell.pinflow("import", file, "--json")
    assert (again.returncode, json.loads(again.stdout)["existing_rows"]) == (0, 1)


@pytest.mark.slow
def test_processes_that_lost_their_supervisor_are_found_and_ended(shell: Shell) -> None:
    os.kill(shell.pid("supervisor"), signal.SIGKILL)
    orphan = shell.pid("kafka")
    up = shell.local("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "lost its supervisor" in up.stdout
    assert not psutil.pid_exists(orphan)


def test_import_reports_the_outcome_by_table_and_exit_code(
    shell: Shell, destination: dict[str, str]
) -> None:
    good = submitted_row(**destination, idempotency_key="cli-1")
    assert shell.pinflow("import", write_rows(shell, "good.json", [good])).returncode == 0
    mixed = shell.pinflow("import", write_rows(shell, "mixed.json", [good, {**good, "title": ""}]))
    assert mixed.returncode == 1
    assert "0 created, 1 existing, 1 failed" in mixed.stdout
    assert "title: must not be blank" in mixed.stdout
    changed = shell.pinflow(
        "import", write_rows(shell, "changed.json", [{**good, "title": "Another title"}])
    )
    assert "1 existing row differs" in changed.stdout
    empty = shell.pinflow("import", write_rows(shell, "empty-row.json", [{}]))
    assert all(
        f"{name}: is required" in empty.stdout
        for name in ("account_id", "board_id", "title", "idempotency_key")
    )


def test_an_address_that_is_not_pinflows_is_exit_code_2(shell: Shell) -> None:
    with HTTPServer(("127.0.0.1", 0), OtherServer) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        listed = shell.pinflow(
            "imports", "list", "--base-url", f"http://127.0.0.1:{server.server_port}"
        )
        server.shutdown()
    assert (listed.returncode, "is not Pinflow" in listed.stderr) == (2, True)


def test_import_reads_standard_input_and_csv(shell: Shell, destination: dict[str, str]) -> None:
    text = (
        "account_id,board_id,title,image_url,idempotency_key\n"
        f"{destination['account_id']},{destination['board_id']},Shelf,"
        "https://cdn.example/s.jpg,cli-csv\n"
    )
    result = shell.pinflow("import", "-", "--format", "csv", "--json", stdin=text)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["source_type"] == "csv"


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("[]", (), "empty_import"),
        ("{", (), "invalid_json"),
        ("[]", ("--api-key", "pf_wrong"), "PINFLOW_API_KEY"),
    ],
)
def test_a_refused_import_is_exit_code_2_with_the_reason(
    shell: Shell, content: str, arguments: tuple[str, ...], message: str
) -> None:
    file = shell.layout.directory / "refused.json"
    file.write_text(content, encoding="utf-8")
    refused = shell.pinflow("import", str(file), *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_a_missing_file_an_unknown_format_and_an_invalid_address_are_exit_code_2(
    shell: Shell,
) -> None:
    assert "Can't read" in shell.pinflow("import", "nowhere.json").stderr
    nameless = shell.layout.directory / "rows.txt"
    nameless.write_text("[]", encoding="utf-8")
    refused = shell.pinflow("import", str(nameless))
    assert (refused.returncode, "--format" in refused.stderr) == (2, True)
    elsewhere = shell.pinflow("imports", "list", "--base-url", "localhost:8080")
    assert (elsewhere.returncode, "must begin with http://" in elsewhere.stderr) == (2, True)


def test_an_unreachable_pinflow_is_exit_code_3(shell: Shell) -> None:
    file = write_rows(shell, "away.json", [submitted_row()])
    away = shell.pinflow("import", file, "--base-url", "http://127.0.0.1:9", "--patience", "1")
    assert (away.returncode, "Nothing answers" in away.stderr) == (3, True)
    no_database = shell.pinflow(
        "workspaces", "list", PINFLOW_DATABASE_URL="postgresql://pinflow@127.0.0.1:9/pinflow"
    )
    assert (no_database.returncode, "Can't use Postgres" in no_database.stderr) == (3, True)
    no_kafka = shell.pinflow("topics", "create", PINFLOW_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    assert (no_kafka.returncode, "Kafka does not answer" in no_kafka.stderr) == (3, True)


def test_imports_are_listed_and_shown(shell: Shell, destination: dict[str, str]) -> None:
    file = write_rows(
        shell,
        "shown.json",
        [submitted_row(**{**destination, "board_id": "nowhere", "idempotency_key": "shown"})],
    )
    job = json.loads(shell.pinflow("import", file, "--json").stdout)
    assert job["id"] in shell.pinflow("imports", "list").stdout
    shown = shell.pinflow("imports", "show", job["id"])
    assert "board_not_found" in shown.stdout
    assert shell.pinflow("imports", "show", "0b7f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01").returncode == 2


@pytest.mark.parametrize(
    "page",
    ["docs/quickstart.md", "docs/how-to/use-the-api.md", "docs/how-to/import-a-spreadsheet.md"],
)
def test_the_examples_of_a_page_print_the_shown_output(shell: Shell, page: str) -> None:
    examples = read_examples(page)
    assert len(examples) >= 4
    assert (
        find_mismatches(examples, shell.run_in_checkout("sh", "-s", stdin=build_script(examples)))
        == []
    )


def test_the_example_of_a_request_by_topic_makes_an_import(shell: Shell) -> None:
    (by_kafka,) = [
        example
        for example in read_examples("docs/how-to/use-the-api.md")
        if "AIOKafkaProducer" in example.code
    ]
    printed = shell.run_in_checkout("sh", "-s", stdin=build_script([by_kafka]))
    request_id = printed.split()[1]
    wait_until(lambda: request_id in shell.pinflow("imports", "list", "--json").stdout)


def test_an_operator_makes_a_workspace_and_its_keys(shell: Shell) -> None:
    made = json.loads(
        shell.pinflow(
            "workspaces", "create", "Agency", "--accounts", "2", "--boards", "3", "--json"
        ).stdout
    )
    assert [len(account["boards"]) for account in made["accounts"]] == [3, 3]
    assert made["workspace_id"] in shell.operate("workspaces", "list").stdout
    own = {"PINFLOW_WORKSPACE_ID": made["workspace_id"]}
    key = json.loads(
        shell.operate("keys", "create", "ci", "--scope", "read", "--json", **own).stdout
    )
    url = shell.env["PINFLOW_BASE_URL"]

    def status_with(plain: str) -> int:
        return httpx.get(
            f"{url}/v1/pins", headers={"X-API-Key": plain}, timeout=40, trust_env=False
        ).status_code

    assert (status_with(made["api_key"]), status_with(key["api_key"])) == (200, 200)
    assert key["api_key"] not in shell.operate("keys", "list", "--json", **own).stdout
    assert shell.operate("keys", "revoke", key["id"]).exit_code == 0
    wait_until(lambda: status_with(key["api_key"]) == 401)
    account = shell.operate("accounts", "add", "Second Shop", **own).stdout.strip()
    assert shell.operate("boards", "add", account, "autumn", **own).exit_code == 0
    assert "autumn" in shell.operate("boards", "list", account, **own).stdout
    twice = shell.operate("boards", "add", account, "autumn", **own)
    assert (twice.exit_code, "already exists" in twice.stderr) == (2, True)
    assert shell.operate("boards", "list", account).exit_code == 2  # another workspace's account


def test_an_operators_key_may_be_for_some_accounts_only(shell: Shell) -> None:
    made = json.loads(
        shell.operate("workspaces", "create", "Contractor", "--accounts", "2", "--json").stdout
    )
    own = {"PINFLOW_WORKSPACE_ID": made["workspace_id"]}
    account = made["accounts"][0]["id"]
    key = json.loads(
        shell.operate("keys", "create", "one", "--account", account, "--json", **own).stdout
    )
    url = f"{shell.env['PINFLOW_BASE_URL']}/v1/pinterest/accounts"
    with httpx.Client(headers={"X-API-Key": key["api_key"]}, timeout=40, trust_env=False) as client:
        assert (
            [listed["id"] for listed in client.get(url).json()] == key["account_ids"] == [account]
        )
        assert client.delete(f"{url}/{account}").status_code == 204
        assert shell.operate("accounts", "restore", account, **own).exit_code == 0
        assert [listed["revoked_at"] for listed in client.get(url).json()] == [None]
    unknown = shell.operate("keys", "create", "none", "--account", str(uuid4()), **own)
    assert (unknown.exit_code, "has no account" in unknown.stderr) == (2, True)


def test_migrate_and_topics_again_change_nothing(shell: Shell) -> None:
    assert shell.pinflow("migrate").returncode == 0
    assert "All topics exist" in shell.pinflow("topics", "create").stdout


async def write_old_import(shell: Shell) -> None:
    """Writes an import to the previous version's topic. That version's status has not read it."""
    servers = shell.env["PINFLOW_KAFKA_BOOTSTRAP_SERVERS"]
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=servers)) as admin:
        await admin.create_topics([NewTopic(OLD_TOPIC, 1, 1)])
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(OLD_TOPIC, b"import")


async def delete_old_topic(shell: Shell) -> None:
    servers = shell.env["PINFLOW_KAFKA_BOOTSTRAP_SERVERS"]
    async with admin_client(KafkaSettings(kafka_bootstrap_servers=servers)) as admin:
        await admin.delete_topics([OLD_TOPIC])


def test_up_refuses_while_an_import_waits_on_a_topic_of_the_previous_version(shell: Shell) -> None:
    asyncio.run(write_old_import(shell))
    up = shell.local("up")
    assert up.returncode == 1, up.stdout
    assert f"{OLD_TOPIC} (group pinflow.status): 1 record waits" in up.stderr
    assert "make down" in up.stderr
    asyncio.run(delete_old_topic(shell))
    up = shell.local("up")
    assert up.returncode == 0, up.stdout + up.stderr


def test_the_key_and_passwords_appear_in_no_log_and_only_in_private_files(
    shell: Shell,
) -> None:
    passwords = json.loads(shell.layout.state_file.read_text(encoding="utf-8"))["passwords"]
    secrets = [shell.env["PINFLOW_API_KEY"], *passwords.values()]
    folder = shell.layout.directory
    holding = {
        file.relative_to(folder): file.stat().st_mode & 0o077
        for file in (*folder.glob("*"), *folder.glob("log/*"))
        if file.is_file() and any(secret in file.read_text(errors="replace") for secret in secrets)
    }
    assert holding == {Path("env"): 0, Path("state.json"): 0, Path("supervisord.conf"): 0}
