"""Readiness: the checks of one process, reported by its endpoints."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

Check = Callable[[], Awaitable[str | None]]
"""Returns None if all is well, else a short description of the problem.

Must answer quickly and never raise.
"""

OK = "ok"


class Readiness(NamedTuple):
    checks: dict[str, str]
    """`ok` or the problem, for each check."""
    is_ready: bool

    @property
    def status(self) -> str:
        if not self.is_ready:
            return "unavailable"
        return OK if all(state == OK for state in self.checks.values()) else "degraded"


class Health:
    """The checks of one process, by name."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._required: set[str] = set()

    def add(self, name: str, check: Check, *, required: bool = True) -> None:
        """Adds a check. If it is `required`, the process is not ready while it fails.

        A problem of a check that is not required is only reported.
        """
        self._checks[name] = check
        if required:
            self._required.add(name)

    async def report(self) -> Readiness:
        answers = await asyncio.gather(*(check() for check in self._checks.values()))
        checks = {name: problem or OK for name, problem in zip(self._checks, answers, strict=True)}
        return Readiness(checks, all(checks[name] == OK for name in self._required))
