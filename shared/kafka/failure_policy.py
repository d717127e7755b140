"""Decides what to do after a batch failed. Does no I/O: BatchConsumer acts on the decisions.

No failure loses a batch: it is retried until it succeeds. Poison records become dead letters.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from shared.contract.errors import Overloaded, PositionBehind, Unavailable
from shared.runtime.backoff import backoff

FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 10.0
MAX_CAPACITY_WAIT_SECONDS = 5.0


class PoisonLimitExceeded(Exception):
    """Too many consecutive records are poison: more likely a faulty deployment than bad records.

    The batch's records do not become dead letters. The consumer retries until an operator acts.
    """


@dataclass(frozen=True, slots=True)
class ReadPositionsAgain:
    """Postgres is older than this consumer's positions. Read them again before the next fetch."""

    reason: str


@dataclass(frozen=True, slots=True)
class WaitForCapacity:
    """The service has reached a limit. That is not an error, and may last."""

    seconds: float
    is_first: bool
    """True if the previous attempt did not already wait for capacity."""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetryUnavailable:
    """A server is unavailable. Retry after a backoff."""

    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class RetryUnexpected:
    """An unexpected error, such as a bug. Retry after a backoff: skipping would lose records."""

    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Halt:
    """Too many records are poison. Retry, and alert the operator."""

    seconds: float


Decision: TypeAlias = (
    ReadPositionsAgain | WaitForCapacity | RetryUnavailable | RetryUnexpected | Halt
)


class FailurePolicy:
    """Decides what one consumer does after a failure. Counts its consecutive failures."""

    def __init__(self, poison_limit: int) -> None:
        """Allows at most `poison_limit` consecutive records to become dead letters."""
        self._poison_limit = poison_limit
        self._consecutive_poison = 0
        self._attempt = 0
        self._is_full = False
        self.is_halted = False

    def check_poison(self, records: int, poison: int) -> int:
        """Returns the number of consecutive poison records, including a batch's.

        The batch has `records` records, of which `poison` are poison. If any is not poison, the
        number is 0, in whatever order they come. The count is stored by `accept`, so that a retried
        batch counts once. Raises PoisonLimitExceeded.
        """
        if poison < records:
            return 0
        consecutive_poison = self._consecutive_poison + poison
        if consecutive_poison > self._poison_limit:
            raise PoisonLimitExceeded(f"{consecutive_poison} consecutive records are poison")
        return consecutive_poison

    def accept(self, consecutive_poison: int) -> None:
        """Records that a batch's work is durable and its dead letters are sent."""
        self._consecutive_poison = consecutive_poison
        self.is_halted = False

    def succeed(self) -> None:
        """Records that a batch is acknowledged."""
        self._attempt = 0
        self._is_full = False

    def forget(self) -> None:
        """Forgets the failures of records that were skipped: no later success would clear them."""
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
        """True if a batch has failed more than once."""
        return self._attempt > 1
