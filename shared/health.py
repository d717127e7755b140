"""Whether a process does its work: its parts say what troubles them, the endpoints tell whoever asks."""

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
        return {name: await check() or OK for name, check in self._checks.items()}


def is_ready(report: dict[str, str]) -> bool:
    return all(state == OK for state in report.values())
