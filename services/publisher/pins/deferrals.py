"""Decides why a pin that waits for its delivery is deferred. Pure rules: no I/O.

`deferred` is not stored. It is a queued pin whose account, app or own image is paused now.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.publisher.model import PinState
from shared.contract.errors import ErrorCode

_OWN_CAUSES = {
    ErrorCode.MEDIA_UNREACHABLE: "The image or video of this pin could not be fetched. Check that "
    "its address can be opened without a login."
}
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
    until = max(cause.until for cause in found)
    message = f"{found[0].message} Pinflow does not send it before {_format_time(until)}."
    return PinDeferral(found[0].code, message, until)


def _find_own_cause(row: Mapping[str, Any], now: datetime) -> PinDeferral | None:
    until: datetime | None = row["deliver_after"]
    code: ErrorCode | None = row["deferral_code"]
    if until is None or until <= now or code is None:  # without one, it waits for its video
        return None
    return PinDeferral(code, _OWN_CAUSES.get(code, _OTHER_CAUSE), until)


def _format_time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
