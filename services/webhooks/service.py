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
    """Too many deliveries in a row were given up."""


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
        """Seconds until the next attempt after `tries` that failed; `part` of 1 is chance ("full jitter"): what failed together
        does not come again together."""
        return part * min(self.longest_seconds, self.first_seconds * self.factor ** (tries - 1))


def decide(answer: Answer, tries: int, policy: RetryPolicy, chance: Callable[[], float]) -> Outcome:
    """`tries`: attempts that failed before this one, since the delivery was last asked for."""
    if answer.error is None:
        return Delivered(answer)
    if answer.status_code == HTTPStatus.GONE:
        return GivenUp(answer, gone=True)
    if tries + 1 >= policy.attempts:
        return GivenUp(answer, gone=False)
    return Retry(answer, policy.pause(tries + 1, chance()))
