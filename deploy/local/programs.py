"""What is run, by whoever runs it: supervisor for the local stack, the tests for themselves."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.layout import CHECKOUT


@dataclass(frozen=True)
class Program:
    """One process.

    `user` is whom to become when the stack is run by root (Postgres refuses root).
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 30
    """After which it is killed."""
    start_order: int = 0

    def launch_command(self, pid_file: Path) -> list[str]:
        """The command that writes its own pid, becomes `user`, and then becomes this program."""
        launcher = [sys.executable, str(Path(__file__).with_name("launch.py")), str(pid_file)]
        return [*launcher, self.user or "-", *self.command]


def service_program(name: str, environment: Mapping[str, str]) -> Program:
    return Program(
        name,
        (sys.executable, "-m", f"services.{name}"),
        {**environment, "PYTHONPATH": str(CHECKOUT)},
        start_order=2,
    )
