"""supervisor keeps the stack's processes: it starts again what dies, and keeps each one's log."""

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import psutil
from supervisor.xmlrpc import SupervisorTransport

from deploy.local.layout import CHECKOUT, HOME_VARIABLE, Layout, LocalError
from deploy.local.programs import Program

SUPERVISOR = "supervisor"
START_SECONDS = 20.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.05

HEADER = """\
[supervisord]
nodaemon=false
directory={checkout}
pidfile={pid_file}
logfile={log_file}
logfile_maxbytes=10MB
logfile_backups=1
childlogdir={log_folder}
minfds=4096
{user}
[unix_http_server]
file={socket}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

PROGRAM = """
[program:{name}]
command={command}
directory={checkout}
environment={environment}
autostart=false
autorestart=true
startsecs=1
startretries=1000000
priority={priority}
stopsignal={stop_signal}
stopwaitsecs={stop_seconds}
stdout_logfile={log_file}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=1
redirect_stderr=true
"""


class Supervisor:
    """The supervisor of one stack, reached over its socket."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def is_running(self) -> bool:
        try:
            self._rpc.getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def launch(self, programs: Sequence[Program]) -> None:
        """Start the supervisor itself; none of the programs. Raises LocalError."""
        self._layout.supervisor_config.touch(mode=0o600)  # it holds passwords
        self._layout.supervisor_config.write_text(self._configuration(programs), encoding="utf-8")
        self._layout.supervisor_socket.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "supervisor.supervisord",
            "-c",
            str(self._layout.supervisor_config),
        ]
        environment = {**os.environ, HOME_VARIABLE: str(self._layout.directory)}
        done = subprocess.run(
            command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_running():
            if done.returncode or time.monotonic() > deadline:
                raise LocalError(
                    "supervisor did not start. Its log: "
                    f"{self._layout.log_file(SUPERVISOR)}\n{done.stdout}{done.stderr}"
                )
            time.sleep(POLL_SECONDS)

    def start(self, name: str) -> None:
        """Start a program that isn't running."""
        try:
            self._rpc.startProcess(name, False)  # noqa: FBT003 - XML-RPC knows no names: don't wait
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise LocalError(
                    f"{name} did not start: {fault.faultString}. Its log: "
                    f"{self._layout.log_file(name)}"
                ) from None

    def states(self) -> dict[str, str]:
        """RUNNING, STARTING, BACKOFF, STOPPED …, by program."""
        return {
            one["name"]: one["statename"]
            for one in cast("list[dict[str, Any]]", self._rpc.getAllProcessInfo())
        }

    def shut_down(self) -> None:
        """Stop all programs, the last started first, and the supervisor.

        Raises LocalError when it takes too long.
        """
        pid = int(self._rpc.getPID())
        supervisor = psutil.Process(pid)
        self._rpc.shutdown()
        try:
            supervisor.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            raise LocalError(
                f"The stack did not stop within {STOP_SECONDS:.0f} s; its supervisor is process "
                f"{pid}."
            ) from None

    def end_strays(self) -> list[str]:
        """End processes of this stack that have lost their supervisor (it was killed).

        Returns their names.
        """
        strays = self._strays()
        for process in strays.values():
            process.terminate()
        _, stubborn = psutil.wait_procs(list(strays.values()), timeout=15)
        for process in stubborn:
            process.kill()
        psutil.wait_procs(stubborn, timeout=5)
        return list(strays)

    def _strays(self) -> dict[str, psutil.Process]:
        found = {}
        for file in sorted((self._layout.directory / "run").glob("*.pid")):
            try:
                process = psutil.Process(int(file.read_text()))
                # The pid may have gone to someone else: only a process that carries this stack's
                # name is ours
                if process.environ().get(HOME_VARIABLE) == str(self._layout.directory):
                    found[file.stem] = process
            except (psutil.Error, ValueError):
                continue
        return found

    @property
    def _rpc(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._layout.supervisor_socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def _configuration(self, programs: Sequence[Program]) -> str:
        header = HEADER.format(
            checkout=_escaped(CHECKOUT),
            pid_file=_escaped(self._layout.pid_file(SUPERVISOR)),
            log_file=_escaped(self._layout.log_file(SUPERVISOR)),
            log_folder=_escaped(self._layout.log_file(SUPERVISOR).parent),
            socket=_escaped(self._layout.supervisor_socket),
            user="user=root\n" if os.geteuid() == 0 else "",  # said outright, or it warns
        )
        return header + "".join(self._section(program) for program in programs)

    def _section(self, program: Program) -> str:
        environment = {**program.environment, HOME_VARIABLE: str(self._layout.directory)}
        return PROGRAM.format(
            name=program.name,
            command=_escaped(
                shlex.join(program.launch_command(self._layout.pid_file(program.name)))
            ),
            checkout=_escaped(CHECKOUT),
            environment=",".join(
                f'{name}="{_escaped(value)}"' for name, value in environment.items()
            ),
            priority=program.start_order,
            stop_signal=program.stop_signal,
            stop_seconds=program.stop_seconds,
            log_file=_escaped(self._layout.log_file(program.name)),
        )


def _escaped(text: str | Path) -> str:
    """supervisor expands %(name)s in its configuration."""
    return str(text).replace("%", "%%")
