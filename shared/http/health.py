"""Whether a process does its work: its parts say what troubles them, the endpoints tell whoever
asks.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

Check = Callable[[], Awaitable[str | None]]
"""Returns None when all is well, else a few words on what is not.

Must answer quickly and never raise.
"""

OK = "ok"


class Readiness(NamedTuple):
    checks: dict[str, str]
    """`ok` or the trouble, for each check."""
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
        self._needed: set[str] = set()

    def add(self, name: str, check: Check, *, required: bool = True) -> None:
        """`needed`: without it the process can't do its work.

        The trouble of what is not needed is told, and that is all.
        """
        self._checks[name] = check
        if required:
            self._needed.add(name)

    async def report(self) -> Readiness:
        answers = await asyncio.gather(*(check() for check in self._checks.values()))
        checks = {name: trouble or OK for name, trouble in zip(self._checks, answers, strict=True)}
        return Readiness(checks, all(checks[name] == OK for name in self._needed))
