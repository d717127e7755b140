"""Decides what follows an attempt: delivered, another attempt, or given up."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, TypeAlias, assert_never

from services.webhooks.delivery.model import AttemptResult, ClaimedDelivery, DeliveryStatus


class Answer(NamedTuple):
    """Holds a receiver's status code, or the reason why there is none."""

    status_code: int | None
    error: str | None
    """None if the receiver took the delivery."""


class Delivered(NamedTuple):
    answer: Answer


class Retry(NamedTuple):
    answer: Answer
    seconds: float


class GivenUp(NamedTuple):
    answer: Answer
    gone: bool
    """The receiver wants no more deliveries, ever."""


Outcome: TypeAlias = Delivered | Retry | GivenUp


@dataclass(frozen=True)
class RetryPolicy:
    attempts: int
    first_seconds: float
    factor: float
    longest_seconds: float

    def pause(self, tries: int, part: float) -> float:
        """Returns the seconds until the next attempt after `tries` that failed.

        `part`: a random factor from 0 to 1 ("full jitter"). It spreads out what failed together.
        """
        return part * min(self.longest_seconds, self.first_seconds * self.factor ** (tries - 1))

    @property
    def seconds(self) -> float:
        """Returns the longest that all pauses of one delivery may take together."""
        return sum(self.pause(tries, 1) for tries in range(1, self.attempts))


class DisablePolicy(NamedTuple):
    """Limits a webhook's consecutive failures.

    It is disabled when `deliveries` were given up in a row, or when `attempts` failed in a row over
    at least `seconds`. Given-up deliveries alone are not enough: a receiver that hangs while much
    waits gets each attempt for another delivery, so none is given up.
    """

    deliveries: int
    attempts: int
    seconds: float

    @classmethod
    def of(cls, deliveries: int, policy: RetryPolicy) -> "DisablePolicy":
        """Allows the attempts of so many deliveries, over the time that one of them may take."""
        return cls(deliveries, deliveries * policy.attempts, policy.seconds)


def decide(answer: Answer, tries: int, policy: RetryPolicy, chance: Callable[[], float]) -> Outcome:
    """Decides what follows an answer. `tries`: attempts that failed before this one."""
    if answer.error is None:
        return Delivered(answer)
    if answer.status_code == HTTPStatus.GONE:
        return GivenUp(answer, gone=True)
    if tries + 1 >= policy.attempts:
        return GivenUp(answer, gone=False)
    return Retry(answer, policy.pause(tries + 1, chance()))


def attempt_result(delivery: ClaimedDelivery, outcome: Outcome) -> AttemptResult:
    """Returns what is stored of an attempt with this outcome."""
    status, pause_seconds, gone = _consequences(outcome)
    return AttemptResult(
        delivery.webhook_id,
        delivery.delivery_id,
        delivery.tries,
        status,
        int(pause_seconds * 1000),
        outcome.answer.status_code,
        outcome.answer.error,
        gone,
    )


def _consequences(outcome: Outcome) -> tuple[DeliveryStatus, float, bool]:
    match outcome:
        case Delivered():
            return DeliveryStatus.DELIVERED, 0.0, False
        case Retry(seconds=seconds):
            return DeliveryStatus.PENDING, seconds, False
        case GivenUp(gone=gone):
            return DeliveryStatus.FAILED, 0.0, gone
    assert_never(outcome)
