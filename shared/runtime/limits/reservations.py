"""Defines what all limits have in common: capacity that is held, refused, or waited for."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class LimitReached(Exception):
    """Refuses at once: `current` of at most `limit` are taken."""

    def __init__(self, limit: int, current: int) -> None:
        super().__init__(f"{current} of {limit}")
        self.limit = limit
        self.current = current


class WaitTimeout(Exception):
    """Refuses after a wait: no capacity became free in time."""


class Reservation:
    """Holds capacity until it is released: at the end of a `with` block, or earlier.

    Releasing it again does nothing.
    """

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Gives the capacity back."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


async def wait_until_granted(grant: "asyncio.Future[None]", timeout_seconds: float) -> None:
    """Raises WaitTimeout. Whatever it raises, the caller has to look at `was_granted`."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await grant
    except TimeoutError:
        raise WaitTimeout from None


def was_granted(grant: "asyncio.Future[None]") -> bool:
    """Tells a grant that came just before its task gave up from one that was cancelled."""
    return grant.done() and not grant.cancelled()
