"""Decides what a command on a whole import does with each of its pins. No I/O.

An undo and a cancellation change only what nobody has changed since the import created it.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar, assert_never
from uuid import UUID

from services.publisher.model import PinState
from services.publisher.removal_outcomes import RemovalOutcome, SettledRemoval
from shared.contract.errors import ErrorCode
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.row import Row

Accounts: TypeAlias = Collection[UUID] | None
"""The accounts that the caller's API key may use. None stands for all of the workspace."""


class UndoAction(StrEnum):
    """The change that an undo makes to a pin.

    - `deleted`: deletes the pin, which was published, has failed or was canceled with its import.
      Or it waited for its delivery to Pinterest, and is never sent.
    - `canceled`: cancels and deletes the schedule, so that it is never published.
    - `removing`: removes the pin from Pinterest. Then deletes it and releases its key. Until then
      it is shown as before.
    - `removed`: the pin is removed from Pinterest and deleted, and its key is free.
    """

    DELETED = "deleted"
    CANCELED = "canceled"
    REMOVING = "removing"
    REMOVED = "removed"


class LeftReason(StrEnum):
    """The reason why a command on an import leaves a pin.

    - `changed`: somebody, or an import with `on_existing=update`, has changed it since.
    - `canceled`: somebody has canceled it.
    - `deleted`: it was deleted before.
    - `published`, `failed`: it is no waiting schedule any more. Only a cancellation has them.
    - `publishing`: it is being sent to Pinterest. A repeated command reaches it after that.
    - `unconfirmed`: it may be on Pinterest: an answer was lost. Only an undo has it.
    - `refused`: Pinterest refused to remove it. Only an undo has it.
    - `account_not_permitted`: it belongs to an account that the API key may not use.
    """

    CHANGED = "changed"
    CANCELED = "canceled"
    DELETED = "deleted"
    PUBLISHED = "published"
    FAILED = "failed"
    PUBLISHING = "publishing"
    UNCONFIRMED = "unconfirmed"
    REFUSED = "refused"
    ACCOUNT_NOT_PERMITTED = "account_not_permitted"


class CancelAction(StrEnum):
    """The change that a cancellation makes to what waits.

    - `cancel`: cancels a schedule.
    - `withdraw`: deletes a pin without a schedule, so that it is never sent to Pinterest.
    - `nothing`: an earlier cancellation of the import has done it.
    """

    CANCEL = "cancel"
    WITHDRAW = "withdraw"
    NOTHING = "nothing"


D = TypeVar("D")


def decide_undo(pin: Row, accounts: Accounts) -> UndoAction | LeftReason:
    """Decides what an undo of its import does with a pin."""
    if (reason := _find_reason_to_leave(pin, accounts)) is not None:
        return reason
    match PinState(pin["state"]):
        case PinState.SCHEDULED:
            return UndoAction.CANCELED
        case PinState.QUEUED:
            return UndoAction.DELETED if pin["run_at"] is None else UndoAction.CANCELED
        case PinState.PUBLISHING | PinState.CONFIRMING:
            return LeftReason.PUBLISHING
        case PinState.PUBLISHED | PinState.FAILED | PinState.CANCELED:
            return _decide_undo_of_ended(pin)
        case state:
            assert_never(state)


def _decide_undo_of_ended(pin: Row) -> UndoAction | LeftReason:
    """Decides about a pin that nothing happens to any more. It may be on Pinterest."""
    if pin["pinterest_pin_id"] is not None and pin["removed_at"] is None:
        return UndoAction.REMOVING
    if pin["error_code"] == ErrorCode.PUBLISH_UNCONFIRMED:
        return LeftReason.UNCONFIRMED
    return UndoAction.DELETED


def decide_cancel(pin: Row, accounts: Accounts) -> CancelAction | LeftReason | None:
    """Decides what a cancellation of its import does with a pin or a schedule.

    Returns None for a pin without a schedule that does not wait any more.
    """
    if pin["run_at"] is None:
        return _decide_cancel_of_pin(pin, accounts)
    return _decide_cancel_of_schedule(pin, accounts)


def _decide_cancel_of_pin(pin: Row, accounts: Accounts) -> CancelAction | LeftReason | None:
    match PinState(pin["state"]):
        case PinState.QUEUED:
            # Only a command on the import deletes a pin without touching it
            is_withdrawn = pin["deleted_at"] is not None and pin["touched_at"] is None
            if is_withdrawn and _is_permitted(pin, accounts):
                return CancelAction.NOTHING
            return _find_reason_to_leave(pin, accounts) or CancelAction.WITHDRAW
        case PinState.PUBLISHING | PinState.CONFIRMING:
            return _find_reason_to_leave(pin, accounts) or LeftReason.PUBLISHING
        case PinState.PUBLISHED | PinState.FAILED | PinState.SCHEDULED | PinState.CANCELED:
            return None
        case state:
            assert_never(state)


def _decide_cancel_of_schedule(schedule: Row, accounts: Accounts) -> CancelAction | LeftReason:
    if (reason := _find_reason_to_leave(schedule, accounts)) is not None:
        return reason
    match PinState(schedule["state"]):
        case PinState.SCHEDULED | PinState.QUEUED:
            return CancelAction.CANCEL
        case PinState.PUBLISHING | PinState.CONFIRMING:
            return LeftReason.PUBLISHING
        case PinState.CANCELED:  # by an earlier cancellation of the import: nobody touched it
            return CancelAction.NOTHING
        case PinState.PUBLISHED:
            return LeftReason.PUBLISHED
        case PinState.FAILED:
            return LeftReason.FAILED
        case state:
            assert_never(state)


def _find_reason_to_leave(pin: Row, accounts: Accounts) -> LeftReason | None:
    """Returns why neither command may change the pin, or None."""
    if not _is_permitted(pin, accounts):
        return LeftReason.ACCOUNT_NOT_PERMITTED
    if pin["deleted_at"] is not None:
        return LeftReason.DELETED
    if pin["touched_at"] is not None:
        is_canceled = pin["state"] == PinState.CANCELED
        return LeftReason.CANCELED if is_canceled else LeftReason.CHANGED
    return None


def _is_permitted(pin: Row, accounts: Accounts) -> bool:
    return accounts is None or pin["account_id"] in accounts


def follow_removals(
    result: Mapping[str, Any], removals: Mapping[UUID, SettledRemoval]
) -> dict[str, Any]:
    """Brings the result of an undo up to date: pins that it is removing from Pinterest.

    A removed pin has the action `removed`. One that Pinterest refused to remove is left.
    """
    undone: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = list(result["left"])
    for item in result["undone"]:
        is_open = item["action"] == UndoAction.REMOVING
        removal = removals.get(UUID(str(item["pin_id"]))) if is_open else None
        match removal and removal.outcome:
            case None:
                undone.append(item)
            case RemovalOutcome.REMOVED:
                undone.append({**item, "action": UndoAction.REMOVED.value})
            case RemovalOutcome.REFUSED:
                ids = {name: value for name, value in item.items() if name != "action"}
                left.append({**ids, "reason": LeftReason.REFUSED.value})
            case outcome:
                assert_never(outcome)
    return {"undone": undone, "left": sorted(left, key=itemgetter("row_number"))}


def find_removing(result: Mapping[str, Any]) -> list[UUID]:
    """Returns the pins that the undo is removing from Pinterest."""
    return [
        UUID(str(item["pin_id"]))
        for item in result["undone"]
        if item["action"] == UndoAction.REMOVING
    ]


class PinIds(NamedTuple):
    """A pin by its row and the ids under which the API shows it."""

    row_number: int
    pin_id: UUID | None
    """Null for a schedule whose pin is not published."""
    schedule_id: UUID | None

    @classmethod
    def from_pin(cls, pin: Row) -> "PinIds":
        is_schedule = pin["run_at"] is not None
        is_pin = not is_schedule or pin["published_at"] is not None
        return cls(
            pin["origin_row"],
            pin["pin_id"] if is_pin else None,
            derive_schedule_id(pin["pin_id"]) if is_schedule else None,
        )


def dump_pins(decided: Iterable[tuple[Row, StrEnum]], name: str) -> list[dict[str, Any]]:
    """Builds the answer's items: the pins' ids and what was decided, in the order of the rows.

    `name` is the field of the decision.
    """
    described = [{**PinIds.from_pin(pin)._asdict(), name: decision} for pin, decision in decided]
    return sorted(described, key=lambda item: item["row_number"])
