"""Describes the stack's processes. supervisor runs them in the local stack; tests run their own."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.layout import CHECKOUT
from deploy.services import WORKERS


@dataclass(frozen=True)
class Program:
    """One process.

    `user` is the user that the process switches to. It is set only if root runs the stack, because
    Postgres refuses to run as root.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 30
    """Seconds after `stop_signal` until the process is killed."""
    start_order: int = 0
    """Programs with a higher number stop earlier."""

    def launch_command(self, pid_file: Path) -> list[str]:
        """Returns the command that writes its pid, switches to `user` and executes the program."""
        launcher = [sys.executable, str(Path(__file__).with_name("launch.py")), str(pid_file)]
        return [*launcher, self.user or "-", *self.command]


def service_program(name: str, environment: Mapping[str, str]) -> Program:
    """Returns the program that runs a service or a worker."""
    module = WORKERS[name].module if name in WORKERS else f"services.{name}"
    return Program(
        name,
        (sys.executable, "-m", module),
        {**environment, "PYTHONPATH": str(CHECKOUT)},
        start_order=2,
    )
