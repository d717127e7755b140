"""Decides how a request changes a stored pin or schedule. Pure rules: no I/O.

Every rule raises ApiError if the change is not allowed.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, assert_never
from uuid import UUID

from services.publisher.model import PinState, build_failure
from services.publisher.outbox_events import PinChange
from services.publisher.pins.request_bodies import ScheduleSubmission, build_changed_values
from services.publisher.pins.statuses import ScheduleStatus, translate_schedule_state
from shared.access.model import BoardCheck, Destination, Principal
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.pins import PinSubmission
from shared.postgres.row import Row

# The decisions and results of commands


class Update(NamedTuple):
    """The decision to write `values`, and to announce `announced_change`, if it is not None."""

    values: dict[str, Any]
    announced_change: PinChange | None = None


class NoOp(NamedTuple):
    """The decision to write nothing, because the row is already in the requested state."""

    message: str


Decision: TypeAlias = Update | NoOp


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
    if row["state"] not in {PinState.PUBLISHED, PinState.FAILED} and not row["is_due"]:
        raise not_found(resource)
    return row


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


def require_destination(checks: Mapping[Destination, BoardCheck], destination: Destination) -> None:
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
    return Update(build_changed_values(PinSubmission, pin, changes))


def delete_pin(principal: Principal, row: Row | None) -> Update:
    return _delete(require_pin(principal, row))


def retry_pin(
    principal: Principal,
    target: Mapping[str, Any],
    checks: Mapping[Destination, BoardCheck],
    row: Row | None,
) -> Update:
    """Publishes a failed pin.

    `target` has the new account and board, if the request has them. `checks` are the results for
    the destinations that were checked before the row was locked.
    """
    pin = require_pin(principal, row)
    _require_unpublished(pin, "This pin is already published. There is nothing to retry.")
    if pin["state"] != PinState.FAILED:
        raise build_conflict(
            ErrorCode.PIN_NOT_FAILED,
            "This pin has not failed and is about to be published. There is nothing to retry.",
            pin,
        )
    # A destination without a check is new: the edit that set it also checked it
    require_destination(checks, build_retry_destination(pin, target))
    published = {
        "state": PinState.PUBLISHED,
        "published_at": pin["now"],
        "error_code": None,
        "error_message": None,
    }
    return Update({**target, **published}, PinChange.PUBLISHED)


def build_retry_destination(pin: Row, target: Mapping[str, Any]) -> Destination:
    """Builds the destination of a retry: `target` overrides the pin's account and board."""
    return Destination(
        pin["workspace_id"],
        target.get("account_id", pin["account_id"]),
        target.get("board_id", pin["board_id"]),
    )


def build_edited_destination(row: Row, update: Update) -> Destination:
    """Builds the destination after an edit of `board_id`.

    Between check and lock the account stays the same: only a retry changes it, and publishes the
    pin, which then can't be edited.
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
    """Cancels a schedule. A due schedule can be canceled until the scheduler has locked it."""
    schedule = require_schedule(principal, row)
    match PinState(schedule["state"]):
        case PinState.SCHEDULED:
            return Update({"state": PinState.CANCELED})
        case PinState.CANCELED:
            return NoOp("This schedule is already canceled.")
        case PinState.PUBLISHED | PinState.FAILED:
            raise _not_pending_error(schedule)
        case state:
            assert_never(state)


def retry_schedule(principal: Principal, row: Row | None) -> Decision:
    """Schedules a failed or canceled schedule again. Its account and board are checked when due."""
    schedule = require_schedule(principal, row)
    match PinState(schedule["state"]):
        case PinState.FAILED | PinState.CANCELED:
            values = {"state": PinState.SCHEDULED, "error_code": None, "error_message": None}
            return Update(values, PinChange.RESCHEDULED)
        case PinState.SCHEDULED:
            return NoOp("This schedule is already waiting to be published.")
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
    return _delete(schedule)


def _delete(row: Row) -> Update:
    # A waiting schedule is also canceled, because the scheduler checks only the state
    state = PinState.CANCELED if row["state"] == PinState.SCHEDULED else row["state"]
    return Update({"state": state, "deleted_at": row["now"]})


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
        case ScheduleStatus.QUEUED:
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
