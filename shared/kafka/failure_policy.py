"""Decides what a failure means for a batch. Does no I/O: BatchConsumer acts on the decisions.

No failure loses a batch. It is either tried again, or its records become dead letters.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from shared.contract.errors import Overloaded, PositionBehind, Unavailable
from shared.runtime.backoff import backoff

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 10.0
MAX_CAPACITY_WAIT_SECONDS = 5.0


class PoisonLimitExceeded(Exception):
    """Too many records in a row are poison. A bad deployment is likelier than so many bad records.

    No record becomes a dead letter. The consumer retries until an operator acts.
    """


@dataclass(frozen=True, slots=True)
class ReadPositionsAgain:
    """Postgres is older than this consumer's positions: read them again before any retry."""

    reason: str


@dataclass(frozen=True, slots=True)
class WaitForCapacity:
    """The service is full. That is no fault and may last."""

    seconds: float
    is_first: bool
    """Whether the previous attempt was not refused for the same reason."""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetryUnavailable:
    """A server is away: retry after a backoff."""

    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class RetryUnexpected:
    """A bug, or an error nobody foresaw: retry after a backoff. Skipping would lose records."""

    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Halt:
    """Too many records are poison: retry, and tell the operator."""

    seconds: float


Decision: TypeAlias = (
    ReadPositionsAgain | WaitForCapacity | RetryUnavailable | RetryUnexpected | Halt
)


class FailurePolicy:
    """Remembers one consumer's failures and decides about the next one."""

    def __init__(self, poison_limit: int) -> None:
        """`poison_limit`: the most records in a row that may become dead letters."""
        self._poison_limit = poison_limit
        self._poison_in_a_row = 0
        self._attempt = 0
        self._is_full = False
        self.is_halted = False

    def check_poison(self, records: int, poison: int) -> int:
        """Returns how many records in a row are poison, with a batch of `records`.

        Does not count yet: a batch that is tried again counts once. Raises PoisonLimitExceeded.
        """
        if poison < records:
            return 0
        in_a_row = self._poison_in_a_row + poison
        if in_a_row > self._poison_limit:
            raise PoisonLimitExceeded(f"{in_a_row} records in a row are poison")
        return in_a_row

    def accept(self, poison_in_a_row: int) -> None:
        """Notes that the work of a batch is done and its dead letters are written."""
        self._poison_in_a_row = poison_in_a_row
        self.is_halted = False

    def succeed(self) -> None:
        """Notes that a batch is complete and acknowledged."""
        self._attempt = 0
        self._is_full = False

    def forget(self) -> None:
        """Forgets failures of records that are skipped now: no batch would end them."""
        self._attempt = 0
        self.is_halted = False

    def fail(self, error: Exception) -> Decision:
        """Decides what to do with a batch that failed with `error`."""
        if isinstance(error, PositionBehind):
            return ReadPositionsAgain(str(error))
        if isinstance(error, Overloaded):
            return self._wait_for_capacity(error)
        self._is_full = False
        attempt, self._attempt = self._attempt, self._attempt + 1
        seconds = backoff(attempt, first=FIRST_BACKOFF_SECONDS, limit=MAX_BACKOFF_SECONDS)
        if isinstance(error, Unavailable):
            return RetryUnavailable(seconds, attempt)
        if isinstance(error, PoisonLimitExceeded):
            self.is_halted = True
            return Halt(seconds)
        return RetryUnexpected(seconds, attempt)

    def _wait_for_capacity(self, error: Overloaded) -> WaitForCapacity:
        is_first, self._is_full = not self._is_full, True
        self._attempt = 0
        seconds = min(error.retry_after, MAX_CAPACITY_WAIT_SECONDS)
        return WaitForCapacity(seconds, is_first, error.details)

    @property
    def is_retrying(self) -> bool:
        """Whether a batch has failed more than once."""
        return self._attempt > 1
