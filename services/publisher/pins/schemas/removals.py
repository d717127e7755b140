"""The HTTP model of a pin's deletion."""

from uuid import UUID

from services.publisher.model import PinState
from services.publisher.pins.deferrals import format_time
from services.publisher.pins.removals import PinRemoval
from services.publisher.removal_outcomes import RemovalOutcome
from shared.access.connection_health import RECONNECT_CODES
from shared.contract.errors import ErrorCode
from shared.http.fields import PinterestPinId
from shared.http.models import ApiModel
from shared.postgres.row import Row

_NOT_SENT = "Pinflow has not sent this pin to Pinterest, so there was nothing to remove there."
_AGAIN = "Send the same request again to see whether it is removed."


class PinDeleteResponse(ApiModel):
    """The result of deleting a pin."""

    id: UUID
    """The id of the deleted pin."""
    deleted: bool = True
    """Always true: the pin is deleted in Pinflow."""
    removed_from_pinterest: bool = False
    """True if the pin was also removed from Pinterest, or was not there any more."""
    pinterest_pin_id: PinterestPinId = None
    reason: str | None = _NOT_SENT
    """The reason why the pin is not removed from Pinterest yet, or not at all. Null if it is."""

    @classmethod
    def from_removal(cls, pin: Row, removal: PinRemoval | None) -> "PinDeleteResponse":
        if removal is None:
            return cls(id=pin["pin_id"], reason=_explain_absence(pin))
        is_removed = removal.outcome is RemovalOutcome.REMOVED
        return cls(
            id=pin["pin_id"],
            removed_from_pinterest=is_removed,
            pinterest_pin_id=removal.pinterest_pin_id,
            reason=None if is_removed else _explain(removal),
        )


def _explain_absence(pin: Row) -> str:
    is_failed = pin["state"] == PinState.FAILED
    if is_failed and pin["error_code"] == ErrorCode.PUBLISH_UNCONFIRMED:
        return (
            "Pinflow does not know whether this pin is on Pinterest, because an answer was lost. "
            f"Look for it on the board {pin['board_id']} at Pinterest, and delete it there."
        )
    return _NOT_SENT


def _explain(removal: PinRemoval) -> str:
    if removal.outcome is not None:
        message = removal.error_message or "Pinterest did not remove the pin."
        return f"{message} Send the same request again to try it once more."
    if removal.is_disconnected:
        return (
            "The pin will be removed when its account is connected to Pinterest again. Connect the "
            f"account, or delete the pin at Pinterest. {_AGAIN}"
        )
    if removal.paused_until is not None:
        end = "when the pause of its account ends"
        if removal.pause_code not in RECONNECT_CODES:
            end = f"{end}, not before {format_time(removal.paused_until)}"
        return f"The pin will be removed {end}. {removal.pause_message} {_AGAIN}"
    return f"The pin will be removed when the delivery to Pinterest reaches it. {_AGAIN}"
