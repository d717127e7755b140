"""Controls supervisord, which runs the stack's processes, restarts them and writes their logs."""

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import psutil
from supervisor.xmlrpc import SupervisorTransport

from deploy.local.layout import CHECKOUT, HOME_VARIABLE, Layout, LocalError
from deploy.local.programs import Program

SUPERVISOR = "supervisor"
START_SECONDS = 20.0
STOP_SECONDS = 60.0
STOP_NOTICE_SECONDS = 3.0
"""The seconds between two lines about what a stop waits for."""
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
        if not self._layout.supervisor_socket.exists():
            return False
        try:
            self._rpc.getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def launch(self, programs: Sequence[Program], inherited: Collection[int] = ()) -> None:
        """Starts supervisor, but none of the programs. Raises LocalError.

        Supervisor keeps the `inherited` descriptors open until it ends. The programs do not get
        them.
        """
        self._layout.supervisor_config.touch(mode=0o600)  # it contains passwords
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
            command,
            env=environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=tuple(inherited),
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_running():
            if done.returncode or time.monotonic() > deadline:
                raise LocalError(
                    "supervisor did not start. See its log: "
                    f"{self._layout.log_file(SUPERVISOR)}\n{done.stdout}{done.stderr}"
                )
            time.sleep(POLL_SECONDS)

    def start(self, name: str) -> None:
        """Starts a program unless it is running. Raises LocalError."""
        try:
            # False: don't wait until it runs. XML-RPC has no keyword arguments
            self._rpc.startProcess(name, False)  # noqa: FBT003
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise LocalError(
                    f"{name} did not start: {fault.faultString}. See its log: "
                    f"{self._layout.log_file(name)}"
                ) from None

    def states(self) -> dict[str, str]:
        """Returns supervisor's state of each program: RUNNING, STARTING, BACKOFF, STOPPED …"""
        processes = cast("list[dict[str, Any]]", self._rpc.getAllProcessInfo())
        return {process["name"]: process["statename"] for process in processes}

    def uptimes(self) -> dict[str, int]:
        """Returns the seconds since the last start of each program that is running."""
        processes = cast("list[dict[str, Any]]", self._rpc.getAllProcessInfo())
        return {
            process["name"]: max(0, process["now"] - process["start"])
            for process in processes
            if process["pid"]
        }

    def pids(self) -> dict[str, int]:
        """Returns the pid of each program that is running at the moment."""
        processes = cast("list[dict[str, Any]]", self._rpc.getAllProcessInfo())
        return {process["name"]: process["pid"] for process in processes if process["pid"]}

    def shut_down(self, report: Callable[[str], None]) -> None:
        """Stops all programs, highest `start_order` first, and then supervisor.

        Reports what it waits for. Raises LocalError if that takes longer than STOP_SECONDS.
        """
        pid, programs = int(self._rpc.getPID()), self.pids()
        supervisor = psutil.Process(pid)
        deadline = time.monotonic() + STOP_SECONDS
        self._rpc.shutdown()
        report(f"stopping {', '.join(programs) or SUPERVISOR}")
        while not _has_ended(supervisor, STOP_NOTICE_SECONDS):
            if time.monotonic() > deadline:
                raise LocalError(
                    f"The stack did not stop within {STOP_SECONDS:.0f} s. Run make down again, or "
                    f"kill its supervisor, process {pid}, and then run make down."
                )
            running = [name for name, each in programs.items() if psutil.pid_exists(each)]
            report(f"waiting for {', '.join(running) or SUPERVISOR}")

    def stop_orphans(self) -> list[str]:
        """Stops processes of this stack whose supervisor was killed. Returns their names."""
        orphans = self._find_orphans()
        for process in orphans.values():
            process.terminate()
        _, still_alive = psutil.wait_procs(list(orphans.values()), timeout=15)
        for process in still_alive:
            process.kill()
        psutil.wait_procs(still_alive, timeout=5)
        return list(orphans)

    def _find_orphans(self) -> dict[str, psutil.Process]:
        orphans = {}
        for file in sorted((self._layout.directory / "run").glob("*.pid")):
            try:
                process = psutil.Process(int(file.read_text()))
                # Another process may have the pid by now. The variable shows that it is ours
                if process.environ().get(HOME_VARIABLE) == str(self._layout.directory):
                    orphans[file.stem] = process
            except (psutil.Error, ValueError):
                continue
        return orphans

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
            user="user=root\n" if os.geteuid() == 0 else "",  # without it supervisor warns
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


def _has_ended(process: psutil.Process, seconds: float) -> bool:
    """Waits at most `seconds` for the end of the process."""
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        return False
    return True


def _escaped(text: str | Path) -> str:
    """Escapes `%`: supervisor expands %(name)s in its configuration."""
    return str(text).replace("%", "%%")
