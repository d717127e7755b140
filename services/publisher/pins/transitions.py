"""What a request makes of the row that stands under its id: decided here, without any I/O.

Rows are PinCommands', under lock.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

from services.publisher.model import PinState, failure_of
from services.publisher.pin_events import OutboxEvent, pin_published, pin_rescheduled
from services.publisher.pins.requests import ScheduleSubmission, edited
from shared.access.model import BoardCheck, Destination, Principal
from shared.contract.errors import ErrorCode, RequestRefused, not_found
from shared.contract.pins import PinSubmission
from shared.contract.schedule_ids import schedule_id_of
from shared.postgres.row import Row


class Change(NamedTuple):
    """`event` is announced of the row as it is then."""

    values: dict[str, Any]
    event: Callable[[Row], OutboxEvent] | None = None


class AsAsked(NamedTuple):
    """The row is already what the request wants it to be."""

    message: str


Decide = Callable[[Row | None], Change | AsAsked]
"""Raises RequestRefused. None is no row: what another workspace has, too."""


# What a request may see


def require_pin(who: Principal, row: Row | None) -> Row:
    """What /v1/pins/{id} shows to this key."""
    if row is None or row["deleted_at"] is not None or not who.permits(row["account_id"]):
        raise not_found("Pin")
    if row["state"] not in {PinState.PUBLISHED, PinState.FAILED} and not row["is_due"]:
        raise not_found("Pin")
    return row


def require_schedule(who: Principal, row: Row | None) -> Row:
    """What /v1/schedules/{id} shows to this key."""
    if (
        row is None
        or row["deleted_at"] is not None
        or row["run_at"] is None
        or not who.permits(row["account_id"])
    ):
        raise not_found("Schedule")
    return row


def require_permitted(who: Principal, account_id: UUID) -> None:
    """Before anything is looked for: of an account that the key may not use, nothing is told."""
    if not who.permits(account_id):
        message = f"account_id: this API key may not publish to {account_id}."
        raise RequestRefused(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)


def require_destination(checks: Mapping[Destination, BoardCheck], destination: Destination) -> None:
    check = checks.get(destination, BoardCheck.KNOWN)
    if check is not BoardCheck.KNOWN:
        failure = failure_of(check, destination)
        raise RequestRefused(ErrorCode(failure.error_code), failure.error_message)


# What stands under the key of what is to be made

_NOT_THEIRS = (
    "This idempotency key is taken by what this API key can't be shown; choose a different one."
)
"""Of another account, or of another key with the same hash."""


def usable(who: Principal, key: str, row: Row) -> Row:
    """The pin that a request for it would have made."""
    if not _stands_under(who, key, row):
        raise RequestRefused(ErrorCode.IDEMPOTENCY_CONFLICT, _NOT_THEIRS, HTTPStatus.CONFLICT)
    if row["deleted_at"] is not None:
        raise _conflict(
            ErrorCode.PIN_DELETED,
            "The pin under this key has been deleted; its key stays taken.",
            row,
        )
    if row["state"] in {PinState.SCHEDULED, PinState.CANCELLED}:
        schedule_id = schedule_id_of(row["pin_id"])
        message = "This key belongs to a schedule."
        raise _conflict(ErrorCode.ALREADY_SCHEDULED, message, row, schedule_id=str(schedule_id))
    return row


def same_schedule(who: Principal, key: str, fingerprint: UUID, row: Row) -> Row:
    """The schedule that the same request has made before."""
    # The same content was for the same account; a retry may have moved it since to one that the key
    # may not use
    if (
        not _stands_under(who, key, row)
        or row["fingerprint"] != fingerprint
        or row["run_at"] is None
    ):
        message = (
            "This idempotency key belongs to a pin or schedule with another content or account."
        )
        raise RequestRefused(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)
    if row["deleted_at"] is not None:
        raise _conflict(
            ErrorCode.PIN_DELETED,
            "The schedule under this key has been deleted; its key stays taken.",
            row,
        )
    return row


def _stands_under(who: Principal, key: str, row: Row) -> bool:
    """And may be shown to who asks."""
    return (row["workspace_id"], row["idempotency_key"]) == (who.workspace_id, key) and who.permits(
        row["account_id"]
    )


# Pins


def edit_pin(who: Principal, given: Mapping[str, Any], row: Row | None) -> Change:
    pin = require_pin(who, row)
    _require_unpublished(
        pin,
        "A published pin can't be edited. Delete it and publish a corrected one under another key.",
    )
    return Change(edited(PinSubmission, pin, given))


def delete_pin(who: Principal, row: Row | None) -> Change:
    return _deleted(require_pin(who, row))


def retry_pin(
    who: Principal,
    instead: Mapping[str, Any],
    checks: Mapping[Destination, BoardCheck],
    row: Row | None,
) -> Change:
    """`instead`: the account and board to take, if others.

    `checks`: of the destinations as they were before the lock.
    """
    pin = require_pin(who, row)
    _require_unpublished(pin, "This pin is published.")
    if pin["state"] != PinState.FAILED:
        raise _conflict(
            ErrorCode.PIN_NOT_FAILED, "This pin has not failed: it is about to be published.", pin
        )
    # One that is not among them was edited in between, and checked for that
    require_destination(checks, destination_of(pin, instead))
    published = {
        "state": PinState.PUBLISHED,
        "published_at": pin["now"],
        "error_code": None,
        "error_message": None,
    }
    return Change({**instead, **published}, pin_published)


def destination_of(pin: Row, instead: Mapping[str, Any]) -> Destination:
    return Destination(
        pin["workspace_id"],
        instead.get("account_id", pin["account_id"]),
        instead.get("board_id", pin["board_id"]),
    )


# Schedules


def edit_schedule(who: Principal, given: Mapping[str, Any], row: Row | None) -> Change:
    schedule = require_schedule(who, row)
    if schedule["state"] != PinState.SCHEDULED or schedule["is_due"]:
        raise _not_pending(schedule)
    values = edited(ScheduleSubmission, schedule, given)
    moved = values.get("run_at", schedule["run_at"]) != schedule["run_at"]
    if "run_at" in values and values["run_at"] <= schedule["now"]:
        raise run_at_in_past()
    return Change(values, pin_rescheduled if moved else None)


def cancel_schedule(who: Principal, row: Row | None) -> Change | AsAsked:
    """One that is due may still be cancelled, as long as the scheduler has not taken it."""
    schedule = require_schedule(who, row)
    if schedule["state"] == PinState.CANCELLED:
        return AsAsked("This schedule is cancelled already.")
    if schedule["state"] != PinState.SCHEDULED:
        raise _not_pending(schedule)
    return Change({"state": PinState.CANCELLED})


def retry_schedule(who: Principal, row: Row | None) -> Change | AsAsked:
    """Its account and board are checked when it is due, as every schedule's."""
    schedule = require_schedule(who, row)
    _require_not_done(schedule, "This schedule is done: its pin is published.")
    if schedule["state"] == PinState.SCHEDULED:
        return AsAsked("This schedule is waiting for its time already.")
    return Change(
        {"state": PinState.SCHEDULED, "error_code": None, "error_message": None}, pin_rescheduled
    )


def delete_schedule(who: Principal, row: Row | None) -> Change:
    schedule = require_schedule(who, row)
    # There is one row for both
    _require_not_done(schedule, "This schedule is done: delete its pin.")
    return _deleted(schedule)


def run_at_in_past() -> RequestRefused:
    return RequestRefused(ErrorCode.RUN_AT_IN_PAST, "run_at: must lie in the future.")


def _deleted(row: Row) -> Change:
    # One that waits is cancelled with it: the scheduler looks at the state only
    state = PinState.CANCELLED if row["state"] == PinState.SCHEDULED else row["state"]
    return Change({"state": state, "deleted_at": row["now"]})


def _require_unpublished(pin: Row, message: str) -> None:
    if pin["state"] == PinState.PUBLISHED:
        raise _conflict(ErrorCode.PIN_ALREADY_PUBLISHED, message, pin)


def _require_not_done(schedule: Row, message: str) -> None:
    if schedule["state"] == PinState.PUBLISHED:
        raise _conflict(ErrorCode.SCHEDULE_ALREADY_PUBLISHED, message, schedule)


def _not_pending(schedule: Row) -> RequestRefused:
    state = "due" if schedule["state"] == PinState.SCHEDULED else schedule["state"]
    message = f"This schedule is {state}: only one that waits for its time can be changed."
    if schedule["state"] == PinState.FAILED:
        message = (
            f"This schedule has failed: correct its pin (PATCH /v1/pins/{schedule['pin_id']}), "
            "then retry it."
        )
    return _conflict(ErrorCode.SCHEDULE_NOT_PENDING, message, schedule)


def _conflict(code: ErrorCode, message: str, row: Row, **details: Any) -> RequestRefused:
    return RequestRefused(code, message, HTTPStatus.CONFLICT, pin_id=str(row["pin_id"]), **details)
