"""Defines what the parts of the delivery process pass to each other. No I/O."""

import math
import time
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from typing import NamedTuple
from uuid import UUID

from pydantic import SecretStr

from shared.contract.errors import PinflowError

APP = UUID(int=0)
"""Stands for the whole app in publisher.pinterest_budgets."""
MAX_REST_SECONDS = 60.0
"""After this an account is looked at again. The list of deliveries shows longer waits as pauses."""


class AttemptOutcome(StrEnum):
    """Names what became of an attempt to create a pin. Null in the database: it is unsettled."""

    CREATED = auto()
    """Pinterest answered with the pin's id."""
    REFUSED = auto()
    """Pinterest refused it, so there is no pin."""
    NOT_SENT = auto()
    """The request never left, so there is no pin."""
    FOUND = auto()
    """The answer was lost, and the pin was found on Pinterest."""
    ABSENT = auto()
    """The answer was lost, and the pin is surely not on Pinterest."""
    UNCONFIRMED = auto()
    """The answer was lost, and Pinterest's lists can't settle it."""


UNKNOWN_IDS = (AttemptOutcome.ABSENT, AttemptOutcome.UNCONFIRMED)
"""The outcomes of attempts that may have made a pin whose id nobody knows."""


@dataclass(frozen=True, slots=True)
class AccountLease:
    """The right to serve one account until `until`, by the database's clock.

    Every write of its holder requires that the account's fence is still `fence`.
    """

    account_id: UUID
    workspace_id: UUID
    fence: int
    until: datetime
    work: frozenset[str] = frozenset()
    """The names of the work that the search found due (accounts/leases.py). Empty: any."""


class ComparedTexts(NamedTuple):
    """The texts of a pin as they are sent, with which a pin on Pinterest is compared."""

    title: str
    description: str | None
    alt_text: str | None
    link: str | None


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One request that creates a pin. Its row is committed before the request leaves."""

    attempt_id: UUID
    pin_id: UUID
    number: int
    workspace_id: UUID
    account_id: UUID
    mode: str
    fence: int
    board_id: str
    texts: ComparedTexts
    started_at: datetime
    deadline_at: datetime
    """The request has surely ended by then: answered, refused or lost."""


class Pause(NamedTuple):
    """A pause of an account or of the app: its pins are `deferred` with `code`."""

    until: datetime
    code: str
    message: str
    step: int = 0
    """The number of times that the pause has grown. A success resets it."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The access token of an account, and the version that `refresh` needs if it is refused."""

    value: SecretStr
    version: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class BegunAttempt:
    """An attempt that is committed, so its request may be sent."""

    attempt: DeliveryAttempt
    is_probe: bool
    """The app was paused, and this attempt shows whether the pause can end."""
    had_pause: bool = True
    """The account or the app has a pause that is over, which a success clears."""
    send_until: float = math.inf
    """The monotonic time after which the request would outlast the attempt's deadline."""


@dataclass(frozen=True, slots=True)
class FinishedTurn:
    """A turn that ended. Its lease is to be released."""

    lease: AccountLease
    did_work: bool
    rest_seconds: float
    """The account is not served again before."""
    ended_at: float = field(default_factory=time.monotonic)
    """The monotonic time from which the rest counts."""

    def remaining_seconds(self) -> float:
        """Returns what is left of the rest now."""
        return max(0.0, self.rest_seconds - (time.monotonic() - self.ended_at))


class Postponed(PinflowError):
    """The work of a part has to wait: a budget is used up, or a pause began. Not a failure."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"postponed by {seconds:g} s")
        self.seconds = seconds
