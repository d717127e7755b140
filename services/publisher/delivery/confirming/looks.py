"""Decides what follows a look at a board for a pin whose answer was lost. No I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias, assert_never

from services.publisher.delivery.attempts.outcomes import describe_lost_answer
from services.publisher.delivery.confirming.matching import (
    Found,
    Match,
    NotFound,
    Similar,
    Undecidable,
)
from services.publisher.model import Failure
from shared.runtime.backoff import backoff

MAX_UNSETTLED = timedelta(days=7)
"""The time after which an attempt is given up whose board can't be read."""
MAX_REFUSED_LOOKS = 6
"""The looks after which an attempt is given up if Pinterest refuses to list the board."""
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 5.0, 600.0


@dataclass(frozen=True, slots=True)
class Adopt:
    """The pin is published, with this id at Pinterest."""

    pinterest_pin_id: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """A first look found nothing. The second one decides."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The pin is surely not on Pinterest, so it is queued again."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing can tell whether the pin is on Pinterest: it fails, and a person decides."""

    failure: Failure


LookDecision: TypeAlias = Adopt | LookAgain | SendAgain | GiveUp


def decide_look(
    match: Match, *, absent_at: datetime | None, looked_at: datetime, confirm_seconds: float
) -> LookDecision:
    """Decides what follows a look that began at `looked_at`.

    `absent_at` is when the first look that found nothing ended. All times are the database's.
    """
    match match:
        case Found(pinterest_pin_id):
            return Adopt(pinterest_pin_id)
        case Undecidable(reason):
            return GiveUp(describe_lost_answer(reason))
        case NotFound() | Similar():
            if absent_at is None:
                return LookAgain(confirm_seconds)
            missing = confirm_seconds - (looked_at - absent_at).total_seconds()
            if missing > 0:  # a look of an earlier holder of the lease ended meanwhile
                return LookAgain(missing)
            if isinstance(match, Similar):
                return GiveUp(describe_lost_answer("a similar pin on the board may be it"))
            return SendAgain()
        case _:
            assert_never(match)


def decide_unread(
    *, tries: int, looked_at: datetime, deadline_at: datetime, is_refused: bool
) -> float | GiveUp:
    """Decides what follows a look that could not read the board: it does not count as a look.

    Returns the seconds to wait. `tries` are all looks before this one. `is_refused`: Pinterest
    does not list the board for this account.
    """
    is_old = tries > 0 and looked_at - deadline_at > MAX_UNSETTLED
    if is_old or (is_refused and tries + 1 >= MAX_REFUSED_LOOKS):
        return GiveUp(describe_lost_answer("the board can't be read"))
    return compute_backoff(tries)


def compute_backoff(tries: int) -> float:
    """Returns the seconds before the next try, after `tries` earlier ones."""
    return backoff(tries, first=FIRST_BACKOFF_SECONDS, limit=MAX_BACKOFF_SECONDS)
