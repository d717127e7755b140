"""Starts, kills, pauses and restarts real processes. A failed test shows their logs."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.local.programs import Program

STOP_SECONDS = 30.0


class RunningProgram:
    """Runs one program as supervisor would, but does not restart it when it dies."""

    def __init__(self, program: Program, directory: Path) -> None:
        self.program = program
        self.log = directory / f"{program.name}.log"
        self._pid_file = directory / f"{program.name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PINFLOW_")
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.program.launch_command(self._pid_file),
                env={**inherited, **self.program.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.program.name} was not started"
        return self._process

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Sends SIGKILL and waits until the process has ended."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def kill_with_children(self) -> None:
        """Sends SIGKILL to the process and its children and waits until all have ended.

        Postgres' children outlive a killed parent for a moment, and might still write.
        """
        processes = self._list_processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
        assert not alive, f"{self.program.name} left {alive} behind"

    def pause(self) -> None:
        """Sends SIGSTOP to the process and its children and waits until all have stopped.

        They stay alive and connected, but do not answer.
        """
        self._stop(psutil.Process(self.process.pid))  # first, so that it starts no further children
        for process in self._list_processes():
            self._stop(process)

    def _stop(self, process: psutil.Process) -> None:
        # Waits for all threads: right after the signal, a thread may still answer a request
        deadline = time.monotonic() + STOP_SECONDS
        with suppress(psutil.NoSuchProcess):  # a child that has ended since
            process.suspend()
            while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                assert time.monotonic() < deadline, f"{self.program.name} does not stop"

    def resume(self) -> None:
        for process in self._list_processes():
            with suppress(psutil.NoSuchProcess):  # a child that has ended since
                process.resume()

    def _list_processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def terminate(self) -> int:
        """Sends SIGTERM, waits for the end and returns the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Stops the process, whatever its state; kills it if it does not stop in time."""
        if not self.is_alive:
            return
        self.resume()
        self.process.send_signal(getattr(signal, f"SIG{self.program.stop_signal}"))
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait_until(self, is_ready: Callable[[], bool], *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not is_ready():
            if not self.is_alive or time.monotonic() > deadline:
                raise AssertionError(
                    f"{self.program.name} is not ready; its log ends:\n{self.tail()}"
                )
            time.sleep(0.05)

    def tail(self, lines: int = 30) -> str:
        return (
            "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
            if self.log.exists()
            else "(no log)"
        )
