"""Sends SIGKILL at the right moment, from a process that the scheduler prefers.

On a busy machine the process that appends imports waits for its turn: kills that it sent itself
came up to 400 ms late.
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
    """Asks the process for kills, one after the other."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def kill_at(self, pid: int, moment: float) -> None:
        """Returns at once; the process is killed at that moment of the monotonic clock."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), f"{pid} {moment}\n".encode())

    def wait(self) -> float:
        """Waits until the process was killed, and returns when that was."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


@contextmanager
def killer() -> Iterator[Killer]:
    """Gives a killer whose process ends afterwards."""
    command = (sys.executable, "-m", "tests.tools.chaos.kills.killer")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT)
    with process:
        with suppress(
            PermissionError
        ):  # not root: then kills are later. Niceness counts only within a session
            os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
        yield Killer(process)  # then its input ends, and so does it


def _main() -> None:
    while line := sys.stdin.readline():
        pid, moment = line.split()
        time.sleep(max(0.0, float(moment) - time.monotonic()))
        os.kill(int(pid), signal.SIGKILL)
        sys.stdout.write(f"{time.monotonic()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
