"""Decides how a request changes a stored pin or schedule. Pure rules: no I/O.

Every rule raises ApiError if the change is not allowed.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, assert_never
from uuid import UUID

from services.publisher.model import PinState, build_failure
from services.publisher.outbox_events import PinChange
from services.publisher.pins.deferrals import NO_PAUSES, find_deferral
from services.publisher.pins.request_bodies import ScheduleSubmission, build_changed_values
from services.publisher.pins.statuses import ScheduleStatus, translate_schedule_state
from shared.access.model import BoardCheck, BoardResult, Destination, Principal
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.pins import PinSubmission
from shared.postgres.row import Row

_NO_FAILURE = {"error_code": None, "error_message": None}
_NO_DEFERRAL = {"deliver_after": None, "deferral_code": None}

# The decisions and results of commands


class Update(NamedTuple):
    """The decision to write `values`, and to announce `announced_change`, if it is not None."""

    values: dict[str, Any]
    announced_change: PinChange | None = None


class NoOp(NamedTuple):
    """The decision to write nothing, because the row is already in the requested state."""

    message: str


Decision: TypeAlias = Update | NoOp


class RetryTarget(NamedTuple):
    """Holds what a retry needs to know. It is read before the row is locked."""

    changes: Mapping[str, Any]
    """The new account and board, if the request has them."""
    checks: Mapping[Destination, BoardResult]
    """The results for the destinations that were checked."""
    connected: Collection[UUID]
    """The accounts among these that were ever connected to Pinterest."""


class Updated(NamedTuple):
    """The result of a command that changed the row."""

    row: Row


class Skipped(NamedTuple):
    """The result of a command that had nothing to do."""

    row: Row
    message: str


CommandResult: TypeAlias = Updated | Skipped | ApiError
"""The result for one of many ids. An error is a value here: it fails only its id."""


def decide_each(
    rows: Mapping[UUID, Row | None], rule: Callable[[Row | None], Decision]
) -> dict[UUID, Decision | ApiError]:
    """Applies a rule to many rows, by pin id."""
    return {pin_id: _decide(rule, row) for pin_id, row in rows.items()}


def _decide(rule: Callable[[Row | None], Decision], row: Row | None) -> Decision | ApiError:
    try:
        return rule(row)
    except ApiError as error:
        return error


# Access checks. A row of another workspace is None here, as if it did not exist.


def require_pin(principal: Principal, row: Row | None, *, resource: str = "Pin") -> Row:
    """Returns the row if /v1/pins/{id} shows it to this API key. Raises ApiError (404).

    A schedule is a pin once it is due.
    """
    if row is None or row["deleted_at"] is not None or not principal.permits(row["account_id"]):
        raise not_found(resource)
    if row["state"] in {PinState.SCHEDULED, PinState.CANCELED} and not row["is_due"]:
        raise not_found(resource)
    return row


def is_on_pinterest(row: Row) -> bool:
    """Returns whether Pinterest has the pin, or had it before Pinflow removed it there."""
    return row["pinterest_pin_id"] is not None


def require_schedule(principal: Principal, row: Row | None) -> Row:
    """Returns the row if /v1/schedules/{id} shows it to this API key. Raises ApiError (404)."""
    if (
        row is None
        or row["deleted_at"] is not None
        or row["run_at"] is None
        or not principal.permits(row["account_id"])
    ):
        raise not_found("Schedule")
    return row


def require_permitted(principal: Principal, account_id: UUID) -> None:
    """Raises ApiError (403) if the API key may not use the account. Call it before any lookup."""
    if not principal.permits(account_id):
        message = (
            f"account_id: this API key may not publish to {account_id}. Use an account that the "
            "key permits, or another API key."
        )
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)


def require_destination(
    checks: Mapping[Destination, BoardResult], destination: Destination
) -> None:
    """Raises ApiError if the account or board failed its check."""
    check = checks.get(destination, BoardCheck.KNOWN)
    if check is not BoardCheck.KNOWN:
        failure = build_failure(check, destination)
        raise ApiError(ErrorCode(failure.error_code), failure.error_message)


def require_future(run_at: datetime | None, now: datetime) -> None:
    if run_at is None or run_at <= now:
        raise ApiError(
            ErrorCode.RUN_AT_IN_PAST, "run_at: must be in the future. Send a later time."
        )


# Pins


def edit_pin(principal: Principal, changes: Mapping[str, Any], row: Row | None) -> Update:
    pin = require_pin(principal, row)
    _require_unpublished(
        pin,
        "A published pin can't be edited. Delete it and publish a new one with a different key.",
    )
    _require_not_publishing(pin)
    return Update(build_changed_values(PinSubmission, pin, changes))


def delete_pin(principal: Principal, row: Row | None) -> Update:
    pin = require_pin(principal, row)
    _require_not_publishing(pin)
    return _delete(pin)


def delete_pin_from_pinterest(principal: Principal, row: Row | None) -> Decision:
    """Deletes a pin that is to be removed from Pinterest, too.

    A pin that was deleted before, and may still be on Pinterest, needs no change. So the request
    can be repeated, and follows a deletion in Pinflow only.
    """
    if (
        row is not None
        and row["deleted_at"] is not None
        and is_on_pinterest(row)
        and principal.permits(row["account_id"])
    ):
        return NoOp("This pin is already deleted in Pinflow.")
    return delete_pin(principal, row)


def retry_pin(
    principal: Principal,
    target: RetryTarget,
    row: Row | None,
    *,
    may_double: bool = False,
) -> Update:
    """Publishes a failed pin, or queues it for its delivery to Pinterest.

    With `may_double`, also a pin that may be on Pinterest already.
    """
    pin = require_pin(principal, row)
    _require_unpublished(pin, "This pin is already published. There is nothing to retry.")
    _require_not_publishing(pin)
    if pin["state"] != PinState.FAILED:
        raise build_conflict(ErrorCode.PIN_NOT_FAILED, _describe_waiting_pin(pin), pin)
    _require_confirmed(pin, may_double=may_double)
    _require_same_delivery(pin, target)
    # A destination without a check is new: the edit that set it also checked it
    require_destination(target.checks, build_retry_destination(pin, target.changes))
    if pin["delivery"] is not None:
        queued = {"state": PinState.QUEUED, **_NO_FAILURE, **_NO_DEFERRAL}
        return Update({**target.changes, **queued}, PinChange.QUEUED)
    published = {"state": PinState.PUBLISHED, "published_at": pin["now"], **_NO_FAILURE}
    return Update({**target.changes, **published}, PinChange.PUBLISHED)


def _describe_waiting_pin(pin: Row) -> str:
    """Says why a queued pin can't be retried. Only its own deferral is known, not other pauses."""
    if (deferral := find_deferral(pin, NO_PAUSES, pin["now"])) is not None:
        return f"This pin has not failed: it is deferred. {deferral.message}"
    if pin["delivery"] is not None:
        return "This pin has not failed: it waits for its delivery. There is nothing to retry."
    return "This pin has not failed and is about to be published. There is nothing to retry."


def _require_same_delivery(pin: Row, target: RetryTarget) -> None:
    """Raises ApiError if the new account is connected and the pin's was not, or the reverse."""
    account_id = target.changes.get("account_id", pin["account_id"])
    if account_id == pin["account_id"]:
        return
    is_delivered = pin["delivery"] is not None
    if is_delivered == (account_id in target.connected):
        return
    if is_delivered:
        message = (
            f"account_id: {account_id} was never connected to Pinterest, and this pin is for "
            "Pinterest. Connect that account, or retry to a connected one."
        )
    else:
        message = (
            f"account_id: {account_id} is connected to Pinterest, and this pin is of an account "
            "that was not. Publish it as a new pin of that account, with a different key."
        )
    raise ApiError(ErrorCode.VALIDATION_ERROR, message)


def build_retry_destination(pin: Row, changes: Mapping[str, Any]) -> Destination:
    """Builds the destination of a retry: `changes` override the pin's account and board."""
    return Destination(
        pin["workspace_id"],
        changes.get("account_id", pin["account_id"]),
        changes.get("board_id", pin["board_id"]),
    )


def build_edited_destination(row: Row, update: Update) -> Destination:
    """Builds the destination after an edit of `board_id`.

    Between check and lock a retry may change the account, but only of a failed pin. If the pin
    is not published at once, its delivery checks the board again.
    """
    return Destination(row["workspace_id"], row["account_id"], update.values["board_id"])


# Schedules


def edit_schedule(principal: Principal, changes: Mapping[str, Any], row: Row | None) -> Update:
    schedule = require_schedule(principal, row)
    if schedule["state"] != PinState.SCHEDULED or schedule["is_due"]:
        raise _not_pending_error(schedule)
    values = build_changed_values(ScheduleSubmission, schedule, changes)
    is_moved = values.get("run_at", schedule["run_at"]) != schedule["run_at"]
    if "run_at" in values:
        require_future(values["run_at"], schedule["now"])
    return Update(values, PinChange.RESCHEDULED if is_moved else None)


def cancel_schedule(principal: Principal, row: Row | None) -> Decision:
    """Cancels a schedule. A due schedule can be canceled until the scheduler has locked it.

    If its account is connected, until it is being sent to Pinterest.
    """
    schedule = require_schedule(principal, row)
    match PinState(schedule["state"]):
        case PinState.SCHEDULED | PinState.QUEUED:
            return Update({"state": PinState.CANCELED})
        case PinState.CANCELED:
            return NoOp("This schedule is already canceled.")
        case PinState.PUBLISHING | PinState.CONFIRMING:
            raise _publishing_error(schedule)
        case PinState.PUBLISHED | PinState.FAILED:
            raise _not_pending_error(schedule)
        case state:
            assert_never(state)


def retry_schedule(principal: Principal, row: Row | None, *, may_double: bool = False) -> Decision:
    """Schedules a failed or canceled schedule again. Its account and board are checked when due.

    With `may_double`, also one whose pin may be on Pinterest already.
    """
    schedule = require_schedule(principal, row)
    match PinState(schedule["state"]):
        case PinState.FAILED | PinState.CANCELED:
            _require_confirmed(schedule, may_double=may_double)
            values = {"state": PinState.SCHEDULED, **_NO_FAILURE, **_NO_DEFERRAL}
            return Update(values, PinChange.RESCHEDULED)
        case PinState.SCHEDULED | PinState.QUEUED:
            return NoOp("This schedule is already waiting to be published.")
        case PinState.PUBLISHING | PinState.CONFIRMING:
            return NoOp("The pin of this schedule is being sent to Pinterest.")
        case PinState.PUBLISHED:
            raise _already_done_error(
                schedule, "This schedule is done: its pin is published. There is nothing to retry."
            )
        case state:
            assert_never(state)


def delete_schedule(principal: Principal, row: Row | None) -> Update:
    schedule = require_schedule(principal, row)
    # Schedule and pin are the same row
    if schedule["state"] == PinState.PUBLISHED:
        raise _already_done_error(schedule, "This schedule is done. Delete its pin instead.")
    _require_not_publishing(schedule)
    return _delete(schedule)


def _delete(row: Row) -> Update:
    # A waiting schedule is also canceled, because the scheduler checks only the state. The delivery
    # sends no queued pin that is deleted
    is_waiting = row["state"] in {PinState.SCHEDULED, PinState.QUEUED} and row["run_at"] is not None
    return Update(
        {"state": PinState.CANCELED if is_waiting else row["state"], "deleted_at": row["now"]}
    )


def _require_not_publishing(row: Row) -> None:
    if row["state"] in {PinState.PUBLISHING, PinState.CONFIRMING}:
        raise _publishing_error(row)


def _publishing_error(row: Row) -> ApiError:
    if row["state"] == PinState.CONFIRMING:
        message = (
            "Pinflow is asking Pinterest whether it has this pin, because an answer was lost. "
            "Try again when the pin is published or failed, which takes some minutes."
        )
    else:
        message = (
            "This pin is being sent to Pinterest. Try again when it is published or failed, "
            "which usually takes seconds."
        )
    return build_conflict(ErrorCode.PIN_PUBLISHING, message, row)


def _require_confirmed(row: Row, *, may_double: bool) -> None:
    """Raises ApiError if the pin may be on Pinterest already, and the caller did not allow it."""
    if row["error_code"] != ErrorCode.PUBLISH_UNCONFIRMED or may_double:
        return
    message = (
        f'This pin may be on Pinterest already: its answer was lost. Look for "{row["title"]}" '
        f"on the board {row['board_id']} at Pinterest. If it is not there, retry with "
        "may_double=true. If it is there, delete this pin."
    )
    raise build_conflict(ErrorCode.PUBLISH_UNCONFIRMED, message, row)


def _require_unpublished(pin: Row, message: str) -> None:
    if pin["state"] == PinState.PUBLISHED:
        raise build_conflict(ErrorCode.PIN_ALREADY_PUBLISHED, message, pin)


def _already_done_error(schedule: Row, message: str) -> ApiError:
    return build_conflict(ErrorCode.SCHEDULE_ALREADY_PUBLISHED, message, schedule)


def _not_pending_error(schedule: Row) -> ApiError:
    status = translate_schedule_state(schedule["state"], is_due=schedule["is_due"])
    message = (
        f"This schedule is {status}. Only a schedule that waits for its run_at can be changed. "
    )
    match status:
        case ScheduleStatus.FAILED:
            message = (
                f"This schedule has failed. Correct its pin (PATCH /v1/pins/{schedule['pin_id']}), "
                "then retry the schedule. Or delete the schedule."
            )
        case ScheduleStatus.CANCELED:
            message += "Retry this schedule, or create another one."
        case ScheduleStatus.QUEUED | ScheduleStatus.DEFERRED:
            message += (
                "The texts, link and board of its pin can still be changed: "
                f"PATCH /v1/pins/{schedule['pin_id']}."
            )
        case _:
            message += "Delete its pin, or create another schedule."
    return build_conflict(ErrorCode.SCHEDULE_NOT_PENDING, message, schedule)


def build_conflict(code: ErrorCode, message: str, row: Row, **details: Any) -> ApiError:
    """Builds the error (409) of a request that the pin's state does not allow."""
    return ApiError(code, message, HTTPStatus.CONFLICT, pin_id=str(row["pin_id"]), **details)
