"""Defines the faults that can be injected, and which requests each concerns."""

from dataclasses import dataclass
from enum import StrEnum, auto
from fnmatch import fnmatchcase
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy.simulator.options import Category

MAX_SECONDS: Final = 24 * 60 * 60
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


class FaultKind(StrEnum):
    """Every fault that `POST /_simulator/faults` takes."""

    CUT_BEFORE = auto()
    """The connection is cut before anything is done."""
    CUT_AFTER = auto()
    """The request is done, and the connection is cut instead of the answer."""
    ERROR_BEFORE = auto()
    """500, and nothing is done."""
    ERROR_AFTER = auto()
    """500, although the request is done."""
    SLOW = auto()
    """The answer comes `seconds` later. The request is done after half of the time."""
    RATE_LIMIT = auto()
    """429 code 8 for `seconds`, for the account and the category."""
    SPAM_BLOCK = auto()
    """429 code 9 for `seconds`, for all writes of the account."""
    INTERNAL = auto()
    """Code 2787 with 400 or 500. The request is done, or not."""
    FETCH = auto()
    """400 code 1: the image can't be fetched. The same request is good when it is repeated."""
    IMAGE_SMALL = auto()
    """403 code 233."""
    IMAGE_BROKEN = auto()
    """403 code 235."""
    TOKEN = auto()
    """401 code 2. The token itself stays good."""
    TRIAL_APP = auto()
    """403 code 29 with the message for apps with Trial access."""
    BOARD_REFUSED = auto()
    """403 code 29 with the general message."""
    BOARD_DELETED = auto()
    """The board of the pin is deleted first, so the request gets 404."""
    LATE_LIST = auto()
    """A new pin is not in lists for `seconds`."""
    SHUFFLED_LIST = auto()
    """Lists of pins have an arbitrary order and pages of changing size."""
    SLOW_MEDIA = auto()
    """Processing of an uploaded video takes `seconds`."""
    FAILED_MEDIA = auto()
    """Processing of an uploaded video fails."""


_PIN_CREATE = ("pins/create",)
_WRITES = ("*/create", "*/update", "*/delete")
_DEFAULT_OPERATIONS: Final = {
    FaultKind.SLOW: ("*",),
    FaultKind.TOKEN: ("pins/*", "boards/*", "board_sections/*", "media/*", "user_account/*"),
    FaultKind.RATE_LIMIT: _WRITES,
    FaultKind.SPAM_BLOCK: _WRITES,
}
"""The operations that a fault without `operation` concerns. All other kinds: pins/create."""
_DEFAULT_SECONDS: Final = {
    FaultKind.SLOW: 2.0,
    FaultKind.RATE_LIMIT: 5.0,
    FaultKind.SPAM_BLOCK: 60.0,
    FaultKind.LATE_LIST: 10.0,
    FaultKind.SLOW_MEDIA: 60.0,
}
LIST_KINDS: Final = frozenset({FaultKind.LATE_LIST, FaultKind.SHUFFLED_LIST})
MEDIA_KINDS: Final = frozenset({FaultKind.SLOW_MEDIA, FaultKind.FAILED_MEDIA})


class InjectedFault(BaseModel):
    """A fault that is injected, and the requests that it concerns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    share: Annotated[float, Field(ge=0, le=1)] = 1
    """The share of the requests, pins or videos that meet the fault."""
    operation: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """A name or pattern of the description's operations: `pins/create`, `boards/*`, `*`."""
    account_id: str | None = None
    """Only requests of this user."""
    board_id: str | None = None
    """Only requests that name this board."""
    count: Annotated[int, Field(ge=1)] | None = None
    """The fault occurs at most so often."""
    seconds: Seconds | None = None

    @property
    def duration(self) -> float:
        return self.seconds if self.seconds is not None else _DEFAULT_SECONDS.get(self.kind, 0)

    @property
    def scope(self) -> tuple[str | None, ...]:
        """A fault replaces the earlier one of the same kind and scope."""
        return (self.kind, self.operation, self.account_id, self.board_id)

    def concerns(self, call: "CallFacts") -> bool:
        default = _DEFAULT_OPERATIONS.get(self.kind, _PIN_CREATE)
        patterns = (self.operation,) if self.operation else default
        return any(
            fnmatchcase(call.operation, pattern) for pattern in patterns
        ) and self.concerns_owner(call.account_id, call.board_id)

    def concerns_owner(self, account_id: str | None, board_id: str | None) -> bool:
        return self.account_id in {None, account_id} and self.board_id in {None, board_id}

    @model_validator(mode="after")
    def _require_meaning(self) -> Self:
        if self.kind in LIST_KINDS and (self.operation or self.count):
            raise ValueError(f"{self.kind} takes no operation and no count")
        if self.kind in MEDIA_KINDS and (self.operation or self.board_id):
            raise ValueError(f"{self.kind} takes no operation and no board_id")
        return self


@dataclass(frozen=True, slots=True)
class CallFacts:
    """A request as far as faults look at it."""

    operation: str
    account_id: str | None = None
    category: Category = "org_read"
    board_id: str | None = None
    content: bytes = b""
    """The body. A repeated request is known by it."""
