"""Sends SIGKILL at a given time, from a process with a high scheduling priority.

On a busy machine the process that appends imports has to wait for the CPU. Kills that it sent
itself were up to 400 ms late.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from deploy.local.layout import CHECKOUT


class Killer:
    """Asks the killer's process for kills, one after the other."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def kill_at(self, pid: int, moment: float) -> None:
        """Schedules a kill at a time of the monotonic clock. Returns at once."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), f"{pid} {moment}\n".encode())

    def wait(self) -> float:
        """Waits until the victim is killed, and returns the time of the kill."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


@contextmanager
def killer() -> Iterator[Killer]:
    """Starts a killer. Its process ends with the context."""
    command = (sys.executable, "-m", "tests.tools.chaos.kills.killer")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT)
    with process:
        # Only root may do this; without it kills are later. Niceness would not help, because it
        # counts only within a session
        with suppress(PermissionError):
            os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
        yield Killer(process)  # afterwards its input is closed, and it ends


def _main() -> None:
    while line := sys.stdin.readline():
        pid, moment = line.split()
        time.sleep(max(0.0, float(moment) - time.monotonic()))
        os.kill(int(pid), signal.SIGKILL)
        sys.stdout.write(f"{time.monotonic()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
