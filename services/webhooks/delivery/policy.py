"""What becomes of a delivery after an attempt. Decides only: no I/O, no clock."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple, TypeAlias


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DisabledReason(StrEnum):
    GONE = "gone"
    """The receiver answered 410."""
    FAILING = "failing"
    """Too many deliveries in a row were given up, or too many attempts failed without one that
    succeeded.
    """


class Answer(NamedTuple):
    """What a receiver made of a request: its status, or why there is none."""

    status_code: int | None
    error: str | None
    """None when it took the delivery."""


class Delivered(NamedTuple):
    answer: Answer


class Retry(NamedTuple):
    answer: Answer
    seconds: float


class GivenUp(NamedTuple):
    answer: Answer
    gone: bool
    """The receiver will never want another one."""


Outcome: TypeAlias = Delivered | Retry | GivenUp


@dataclass(frozen=True)
class RetryPolicy:
    attempts: int
    first_seconds: float
    factor: float
    longest_seconds: float

    def pause(self, tries: int, part: float) -> float:
        """Seconds until the next attempt after `tries` that failed; `part` of 1 is chance ("full
        jitter"): what failed together does not come again together.
        """
        return part * min(self.longest_seconds, self.first_seconds * self.factor ** (tries - 1))

    @property
    def seconds(self) -> float:
        """How long the pauses of one delivery may be together."""
        return sum(self.pause(tries, 1) for tries in range(1, self.attempts))


class Patience(NamedTuple):
    """What a webhook may fail until it is disabled: so many deliveries in a row, or so many
    attempts in a row over so long.

    A receiver that hangs, with much waiting for it, is tried with one delivery after the other:
    none of them may come to its end.
    """

    deliveries: int
    attempts: int
    seconds: float

    @classmethod
    def of(cls, deliveries: int, policy: RetryPolicy) -> "Patience":
        """As many attempts as those deliveries may have, and as long as one of them may take."""
        return cls(deliveries, deliveries * policy.attempts, policy.seconds)


def decide(answer: Answer, tries: int, policy: RetryPolicy, chance: Callable[[], float]) -> Outcome:
    """`tries`: attempts that failed before this one, since the delivery was last asked for."""
    if answer.error is None:
        return Delivered(answer)
    if answer.status_code == HTTPStatus.GONE:
        return GivenUp(answer, gone=True)
    if tries + 1 >= policy.attempts:
        return GivenUp(answer, gone=False)
    return Retry(answer, policy.pause(tries + 1, chance()))
