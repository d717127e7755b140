"""Decides how a request changes a pin or schedule. Pure rules: no I/O.

Every rule raises ApiError if the change is not allowed.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, assert_never
from uuid import UUID

from services.publisher.existing_pins import ContentComparison, compare_content
from services.publisher.ids import compute_pin_id
from services.publisher.model import PinState, build_failure
from services.publisher.outbox_events import PinChange
from services.publisher.pins.request_bodies import ScheduleSubmission, build_changed_values
from services.publisher.pins.statuses import ScheduleStatus, translate_schedule_state
from shared.access.model import BoardCheck, Destination, Principal
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.pins import PinSubmission, compute_fingerprint
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.row import Row


class NewPin(NamedTuple):
    """A pin or schedule to create for a direct call."""

    pin_id: UUID
    workspace_id: UUID
    content: PinSubmission
    fingerprint: UUID

    @classmethod
    def create(cls, principal: Principal, content: PinSubmission) -> "NewPin":
        """Builds the pin. Raises ApiError (403) if the API key may not publish to the account."""
        require_permitted(principal, content.account_id)
        pin_id = compute_pin_id(principal.workspace_id, content.idempotency_key)
        return cls(pin_id, principal.workspace_id, content, compute_fingerprint(content))

    @property
    def destination(self) -> Destination:
        return Destination(self.workspace_id, self.content.account_id, self.content.board_id)


class PinOfKey(NamedTuple):
    """The stored pin of an idempotency key, and whether this call created it."""

    row: Row
    is_new: bool
    comparison: ContentComparison | None = None
    """The sent content compared with an existing pin. None if it was not compared."""


class OnMismatch(StrEnum):
    """The answer to a request whose key has a pin with different content.

    - `return`: that pin.
    - `fail`: 422 `idempotency_key_reused`, with the differing fields. In a batch only its item
      fails.
    """

    RETURN = "return"
    FAIL = "fail"


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


# The stored pin of the key of a pin or schedule to create

_KEY_NOT_VISIBLE = (
    "This idempotency key is taken by a pin that this API key may not see. Use a different "
    "idempotency key."
)
"""The error of a pin that belongs to another account, or to another key with the same hash."""


def resolve_existing(principal: Principal, key: str, row: Row) -> Row:
    """Returns the existing pin of the key, for a request that would create one."""
    if not _owns_key(principal, key, row):
        raise ApiError(ErrorCode.IDEMPOTENCY_CONFLICT, _KEY_NOT_VISIBLE, HTTPStatus.CONFLICT)
    if row["deleted_at"] is not None:
        raise _conflict_error(
            ErrorCode.PIN_DELETED,
            "The pin with this idempotency key was deleted. The key stays taken: use a "
            "different one.",
            row,
        )
    match PinState(row["state"]):
        case PinState.PUBLISHED | PinState.FAILED:
            return row
        case PinState.SCHEDULED | PinState.CANCELED:
            schedule_id = derive_schedule_id(row["pin_id"])
            message = (
                f"This idempotency key belongs to the schedule {schedule_id}. Use a different key."
            )
            raise _conflict_error(
                ErrorCode.ALREADY_SCHEDULED, message, row, schedule_id=str(schedule_id)
            )
        case state:
            assert_never(state)


def compare_with_pin(
    content: PinSubmission, row: Row, on_mismatch: OnMismatch
) -> ContentComparison:
    """Compares a request with the pin of its key, which the API key may see.

    Raises ApiError (422) if the content differs and `on_mismatch` is FAIL.
    """
    comparison = compare_content(row, content.to_content(), compute_fingerprint(content))
    if comparison.payload_matches or on_mismatch is OnMismatch.RETURN:
        return comparison
    message = (
        "This idempotency key belongs to a pin with different content. Use a different key, or "
        "send the content of the pin."
    )
    raise _reused_error(message, comparison, row)


def resolve_repeated_schedule(principal: Principal, content: PinSubmission, row: Row) -> Row:
    """Returns the existing schedule of the key, if an equal request created it."""
    message = (
        "This idempotency key belongs to a pin or schedule with different content or another "
        "account. Use a different key."
    )
    # An equal fingerprint means the same account. But a retry may have moved the pin since to an
    # account that the API key may not use. The error then says nothing of the pin
    if not _owns_key(principal, content.idempotency_key, row):
        raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)
    comparison = compare_content(row, content.to_content(), compute_fingerprint(content))
    if not comparison.payload_matches or row["run_at"] is None:
        raise _reused_error(message, comparison, row)
    if row["deleted_at"] is not None:
        raise _conflict_error(
            ErrorCode.PIN_DELETED,
            "The schedule with this idempotency key was deleted. The key stays taken: use a "
            "different one.",
            row,
        )
    return row


def _reused_error(message: str, comparison: ContentComparison, row: Row) -> ApiError:
    return ApiError(
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        message,
        pin_id=str(row["pin_id"]),
        differing_fields=comparison.dump_differing_fields(),
    )


def _owns_key(principal: Principal, key: str, row: Row) -> bool:
    """Returns whether the principal may see the row, and the row has this key.

    Another key may have the same hash, and so the same pin id.
    """
    owner = (row["workspace_id"], row["idempotency_key"])
    return owner == (principal.workspace_id, key) and principal.permits(row["account_id"])


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
        raise _conflict_error(
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
        raise _conflict_error(ErrorCode.PIN_ALREADY_PUBLISHED, message, pin)


def _already_done_error(schedule: Row, message: str) -> ApiError:
    return _conflict_error(ErrorCode.SCHEDULE_ALREADY_PUBLISHED, message, schedule)


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
    return _conflict_error(ErrorCode.SCHEDULE_NOT_PENDING, message, schedule)


def _conflict_error(code: ErrorCode, message: str, row: Row, **details: Any) -> ApiError:
    return ApiError(code, message, HTTPStatus.CONFLICT, pin_id=str(row["pin_id"]), **details)
