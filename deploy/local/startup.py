"""Waits until the stack's processes are ready, and explains why one is not."""

import time
from collections import defaultdict
from collections.abc import Callable

from deploy.local.layout import Layout, LocalError
from deploy.local.supervision import Supervisor

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
LOG_LINES_SHOWN = 8
MAX_EXITS = 3
"""The number of exits of one process at which a start is given up. Once or twice may be chance."""


class ExitedAtStart(LocalError):
    """A process exits again and again."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class Startup:
    """One command's start of the processes. Its deadline counts from its construction."""

    def __init__(
        self, layout: Layout, supervisor: Supervisor, report: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._supervisor = supervisor
        self._report = report
        self._deadline = time.monotonic() + READY_SECONDS
        self._seen_pids: defaultdict[str, set[int]] = defaultdict(set)

    def wait_for(self, name: str, find_problem: Callable[[], str | None]) -> None:
        """Waits until `find_problem` returns None. Raises LocalError after the deadline."""
        notice_at, is_reported = time.monotonic() + NOTICE_SECONDS, False
        while (problem := find_problem()) is not None:
            if RECOVER in problem:
                raise LocalError(POSITIONS_REFUSED)
            self._require_lasting_processes()
            if time.monotonic() > self._deadline:
                raise LocalError(self._describe_timeout(name, problem))
            if time.monotonic() > notice_at and not is_reported:
                self._report(f"still waiting for {name}: {problem}")
                is_reported = True
            time.sleep(POLL_SECONDS)

    def _require_lasting_processes(self) -> None:
        """Raises ExitedAtStart if a process has exited several times since this start began."""
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
        states = self._supervisor.states() if self._supervisor.is_running() else {}
        listed = ", ".join(f"{program} {state}" for program, state in sorted(states.items()))
        return "\n".join(
            [
                f"{name} was not ready within {READY_SECONDS:.0f} s: {problem}",
                f"processes: {listed}",
                f"last lines of {log}:",
                *self._read_last_lines(name),
                f"Look for the cause in the logs in {log.parent}. Then run make down and make up.",
                "If you don't need the data: make clean, then make up.",
            ]
        )
