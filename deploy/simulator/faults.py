"""Decides which injected faults a request meets. Deterministic: the seed and the order decide.

Nothing here waits, answers or closes a connection: the application does what is decided. Faults are
in memory and end with the process.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import ceil
from random import Random
from typing import Any, Final

from deploy.simulator.errors import (
    AUTHENTICATION_FAILED,
    FETCH_FAILED,
    IMAGE_BROKEN,
    IMAGE_SMALL,
    NOT_PERMITTED,
    RATE_LIMITED,
    TRIAL_APP,
    ErrorAnswer,
)
from deploy.simulator.fault_kinds import (
    LIST_KINDS,
    MEDIA_KINDS,
    CallFacts,
    FaultKind,
    InjectedFault,
)


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Injection:
    """The faults of one request.

    `before` keeps the request from being done. `after` replaces the answer of a request that was
    done.
    """

    delay_seconds: float = 0
    before: Cut | ErrorAnswer | None = None
    after: Cut | ErrorAnswer | None = None
    deletes_board: bool = False

    @property
    def is_decided(self) -> bool:
        return bool(self.before or self.after or self.deletes_board)


_FAILED = ErrorAnswer(500, 500, "Something went wrong. This error is injected by the simulator.")
_SPAM = "Sorry! You've hit a block we have in place to combat spam. Please try again later."
_INTERNAL = "Sorry! Something went wrong on our end."
_EFFECTS: Final[dict[FaultKind, Injection]] = {
    FaultKind.CUT_BEFORE: Injection(before=Cut()),
    FaultKind.CUT_AFTER: Injection(after=Cut()),
    FaultKind.ERROR_BEFORE: Injection(before=_FAILED),
    FaultKind.ERROR_AFTER: Injection(after=_FAILED),
    FaultKind.FETCH: Injection(before=FETCH_FAILED),
    FaultKind.IMAGE_SMALL: Injection(before=IMAGE_SMALL),
    FaultKind.IMAGE_BROKEN: Injection(before=IMAGE_BROKEN),
    FaultKind.TOKEN: Injection(before=AUTHENTICATION_FAILED),
    FaultKind.TRIAL_APP: Injection(before=TRIAL_APP),
    FaultKind.BOARD_REFUSED: Injection(before=NOT_PERMITTED),
    FaultKind.BOARD_DELETED: Injection(deletes_board=True),
}


@dataclass(slots=True)
class _ActiveFault:
    fault: InjectedFault
    random: Random
    fired: int = 0
    fetched: set[bytes] = field(default_factory=set)
    """Digests of the requests that met a `fetch` fault once."""

    @property
    def is_used_up(self) -> bool:
        return self.fault.count is not None and self.fired >= self.fault.count

    def occurs(self, call: CallFacts) -> bool:
        """Draws whether the request meets the fault, and counts it."""
        if self.is_used_up or not self.fault.concerns(call):
            return False
        if self.fault.kind is FaultKind.FETCH and not self._is_first_fetch(call):
            return False
        return self.draw()

    def draw(self) -> bool:
        """Draws by the share, and counts what it drew."""
        if self.is_used_up or self.random.random() >= self.fault.share:
            return False
        self.fired += 1
        return True

    def _is_first_fetch(self, call: CallFacts) -> bool:
        digest = hashlib.sha256(f"{call.account_id}\n".encode() + call.content).digest()
        is_first = digest not in self.fetched
        self.fetched.add(digest)
        return is_first


@dataclass(frozen=True, slots=True)
class _Hold:
    """A refusal that lasts: of a rate limit for one category, of a spam block for all writes."""

    until: float
    kind: FaultKind


class Faults:
    """Holds the active faults and draws what each request meets."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._active: dict[tuple[str | None, ...], _ActiveFault] = {}
        self._fired_before: dict[str, int] = {}
        self._holds: dict[tuple[str | None, str], _Hold] = {}

    def add(self, fault: InjectedFault) -> None:
        """Activates a fault. It replaces the one of the same kind and scope."""
        self._keep_count(self._active.pop(fault.scope, None))
        random = Random(f"{self.seed} {fault.scope}")  # noqa: S311 - not a secret
        self._active[fault.scope] = _ActiveFault(fault, random)

    def clear(self) -> None:
        """Turns all faults off. The numbers of faults that occurred stay."""
        for active in self._active.values():
            self._keep_count(active)
        self._active.clear()
        self._holds.clear()

    def forget(self) -> None:
        """Turns all faults off and forgets what occurred."""
        self.clear()
        self._fired_before.clear()

    def describe(self) -> dict[str, Any]:
        """Returns the active faults, and how often each kind occurred since the last reset."""
        fired = dict(self._fired_before)
        for active in self._active.values():
            kind = str(active.fault.kind)
            fired[kind] = fired.get(kind, 0) + active.fired
        faults = [
            {**active.fault.model_dump(mode="json", exclude_none=True), "fired": active.fired}
            for active in self._active.values()
            if not active.is_used_up
        ]
        return {"active": faults, "fired": {kind: n for kind, n in fired.items() if n}}

    def draw(self, call: CallFacts, now: float) -> Injection:
        """Decides what happens to a request. At most one fault decides; delays add up."""
        if hold := self._find_hold(call, now):
            return Injection(before=_refuse(hold.kind, hold.until - now))
        delay = sum(a.fault.duration for a in self._of({FaultKind.SLOW}) if a.occurs(call))
        for active in self._of(_DECIDING_KINDS):
            if active.occurs(call):
                decided = self._effect_of(active, call, now)
                return Injection(delay, decided.before, decided.after, decided.deletes_board)
        return Injection(delay)

    def is_hidden(self, pin_id: str, account_id: str, board_id: str, age_seconds: float) -> bool:
        """Returns whether a pin of this age is still missing from lists."""
        return any(
            age_seconds < active.fault.duration
            and active.fault.concerns_owner(account_id, board_id)
            and _fraction(self.seed, pin_id) < active.fault.share
            for active in self._of({FaultKind.LATE_LIST})
        )

    def is_shuffled(self, account_id: str, board_id: str | None) -> bool:
        """Returns whether a list of the account's or the board's pins has an arbitrary order."""
        return any(
            active.fault.concerns_owner(account_id, board_id)
            for active in self._of({FaultKind.SHUFFLED_LIST})
        )

    def position(self, pin_id: str) -> float:
        """Returns a pin's place in shuffled lists. It never changes, so paging finds every pin."""
        return _fraction(self.seed, f"order {pin_id}")

    def shrink_page(self, page_size: int, bookmark: str) -> int:
        """Returns the size of a page of a shuffled list: at least 1."""
        return ceil(page_size * _fraction(self.seed, f"page {bookmark}")) or 1

    def draw_media(self, account_id: str) -> tuple[float, bool]:
        """Decides how long the processing of a video takes, and whether it fails."""
        seconds, fails = 0.0, False
        for active in self._of(MEDIA_KINDS):
            if active.fault.concerns_owner(account_id, None) and active.draw():
                seconds = max(seconds, active.fault.duration)
                fails = fails or active.fault.kind is FaultKind.FAILED_MEDIA
        return seconds, fails

    def _of(self, kinds: Iterable[FaultKind]) -> Iterable[_ActiveFault]:
        return [active for active in self._active.values() if active.fault.kind in kinds]

    def _find_hold(self, call: CallFacts, now: float) -> _Hold | None:
        for key in _hold_keys(call):
            hold = self._holds.get(key)
            if hold and hold.until > now:
                return hold
        return None

    def _effect_of(self, active: _ActiveFault, call: CallFacts, now: float) -> Injection:
        fault = active.fault
        if fault.kind is FaultKind.INTERNAL:
            answer = ErrorAnswer(active.random.choice((400, 500)), 2787, _INTERNAL)
            is_done = active.random.choice((True, False))
            return Injection(after=answer) if is_done else Injection(before=answer)
        if fault.kind in _HOLDING_KINDS:
            until = now + fault.duration
            is_limit = fault.kind is FaultKind.RATE_LIMIT
            self._holds[call.account_id, call.category if is_limit else "spam"] = _Hold(
                until, fault.kind
            )
            return Injection(before=_refuse(fault.kind, fault.duration))
        return _EFFECTS[fault.kind]

    def _keep_count(self, active: _ActiveFault | None) -> None:
        if active is not None:
            kind = str(active.fault.kind)
            self._fired_before[kind] = self._fired_before.get(kind, 0) + active.fired


_HOLDING_KINDS: Final = frozenset({FaultKind.RATE_LIMIT, FaultKind.SPAM_BLOCK})
_DECIDING_KINDS: Final = frozenset(FaultKind) - LIST_KINDS - MEDIA_KINDS - {FaultKind.SLOW}


def _hold_keys(call: CallFacts) -> Iterable[tuple[str | None, str]]:
    yield call.account_id, call.category
    if call.category == "org_write":
        yield call.account_id, "spam"


def _refuse(kind: FaultKind, seconds: float) -> ErrorAnswer:
    if kind is FaultKind.SPAM_BLOCK:
        return ErrorAnswer(429, 9, _SPAM)
    return replace(RATE_LIMITED, reset_seconds=max(1, ceil(seconds)))


def _fraction(seed: int, name: str) -> float:
    """Returns a number from 0 to below 1 that only the seed and the name decide."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
