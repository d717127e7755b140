"""Whether a process does its work: its parts say what troubles them, the endpoints tell whoever asks."""

import asyncio
from collections.abc import Awaitable, Callable

Check = Callable[[], Awaitable[str | None]]
"""Returns None when all is well, else a few words on what is not. Must answer quickly and never raise."""

OK = "ok"


class Health:
    """The checks of one process, by name."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    async def report(self) -> dict[str, str]:
        """`ok` or the trouble, for each check."""
        answers = await asyncio.gather(*(check() for check in self._checks.values()))
        return {name: trouble or OK for name, trouble in zip(self._checks, answers, strict=True)}


def is_ready(report: dict[str, str]) -> bool:
    return all(state == OK for state in report.values())
