"""Decides why a pin that waits for its delivery is deferred. Pure rules: no I/O.

`deferred` is not stored. It is a queued pin whose account, app or own image is paused now.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.publisher.model import PinState
from shared.access.connection_health import RECONNECT_CODES
from shared.contract.errors import ErrorCode

_OWN_CAUSES = {
    ErrorCode.MEDIA_UNREACHABLE: "The image or video of this pin could not be fetched. Check that "
    "its address can be opened without a login."
}
_DELAYS_AFTER_A_PERSON: dict[str, str] = {
    **dict.fromkeys(RECONNECT_CODES, "a minute"),
    ErrorCode.APP_NOT_APPROVED: "ten minutes",
}
"""The time in which a pin is sent after a person has ended its pause: when Pinflow asks again."""
_OTHER_CAUSE = "This pin could not be sent."


class PinDeferral(NamedTuple):
    """The reason why a queued pin is not sent now."""

    code: str
    message: str
    until: datetime
    """The pin is not sent before. It may be deferred again then."""


class Pauses(NamedTuple):
    """The pauses of now: that of the app, and those of accounts by their ids."""

    app: PinDeferral | None
    accounts: Mapping[UUID, PinDeferral]


NO_PAUSES = Pauses(None, {})


def find_deferral(row: Mapping[str, Any], pauses: Pauses, now: datetime) -> PinDeferral | None:
    """Returns why a pin is deferred, or None. The end of the longest pause counts.

    If there are several, the account's is named first: its owner can often end it.
    """
    if row["state"] != PinState.QUEUED:
        return None
    causes = (pauses.accounts.get(row["account_id"]), pauses.app, _find_own_cause(row, now))
    found = [cause for cause in causes if cause is not None]
    if not found:
        return None
    message = f"{found[0].message} {_describe_end(found)}"
    return PinDeferral(found[0].code, message, max(cause.until for cause in found))


def _describe_end(causes: Sequence[PinDeferral]) -> str:
    """Says when the pin is sent. A pause that a person has to end has no time that says so."""
    passing = [cause.until for cause in causes if cause.code not in _DELAYS_AFTER_A_PERSON]
    delays = [delay for cause in causes if (delay := _DELAYS_AFTER_A_PERSON.get(cause.code))]
    if not delays:
        return f"Pinflow does not send it before {format_time(max(passing))}."
    if passing:
        return f"After that, Pinflow sends it, but not before {format_time(max(passing))}."
    return f"After that, it is sent within {delays[-1]}."


def _find_own_cause(row: Mapping[str, Any], now: datetime) -> PinDeferral | None:
    until: datetime | None = row["deliver_after"]
    code: ErrorCode | None = row["deferral_code"]
    if until is None or until <= now or code is None:  # without one, it waits for its video
        return None
    return PinDeferral(code, _OWN_CAUSES.get(code, _OTHER_CAUSE), until)


def format_time(time: datetime) -> str:
    """Formats a time as texts for users have it."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
