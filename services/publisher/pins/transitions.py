"""Decides what a request does to the row under its id. Pure rules: no I/O.

Every rule raises ApiError if the request may not do it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, assert_never
from uuid import UUID

from services.publisher.ids import compute_pin_id
from services.publisher.model import PinState, build_failure
from services.publisher.pin_events import PinChange
from services.publisher.pins.requests import ScheduleSubmission, build_changed_values
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
        """Raises ApiError (403) if the API key may not publish to the account."""
        require_permitted(principal, content.account_id)
        pin_id = compute_pin_id(principal.workspace_id, content.idempotency_key)
        return cls(pin_id, principal.workspace_id, content, compute_fingerprint(content))

    @property
    def destination(self) -> Destination:
        return Destination(self.workspace_id, self.content.account_id, self.content.board_id)


class KeyOwner(NamedTuple):
    """The row that owns an idempotency key, and whether this call created it."""

    row: Row
    is_new: bool


# What a command does


class Update(NamedTuple):
    """Writes `values`, and the event that announces them into the outbox."""

    values: dict[str, Any]
    announced_change: PinChange | None = None


class NoOp(NamedTuple):
    """Writes nothing: the row is already what the request wants it to be."""

    message: str


Decision: TypeAlias = Update | NoOp


class Updated(NamedTuple):
    row: Row


class Skipped(NamedTuple):
    """The command had nothing to do."""

    row: Row
    message: str


CommandResult: TypeAlias = Updated | Skipped | ApiError
"""The result for one of many ids. A refusal is a value here: it fails its id alone."""


def decide_each(
    rows: Mapping[UUID, Row | None], rule: Callable[[Row | None], Decision]
) -> dict[UUID, Decision | ApiError]:
    """Applies a rule to many rows, by pin id."""
    return {pin_id: _decide(rule, row) for pin_id, row in rows.items()}


def _decide(rule: Callable[[Row | None], Decision], row: Row | None) -> Decision | ApiError:
    try:
        return rule(row)
    except ApiError as refusal:
        return refusal


# What a request may see. No row is what another workspace has, too.


def require_pin(principal: Principal, row: Row | None, *, noun: str = "Pin") -> Row:
    """Returns what /v1/pins/{id} shows to this key. A schedule is a pin once it is due."""
    if row is None or row["deleted_at"] is not None or not principal.permits(row["account_id"]):
        raise not_found(noun)
    if row["state"] not in {PinState.PUBLISHED, PinState.FAILED} and not row["is_due"]:
        raise not_found(noun)
    return row


def require_schedule(principal: Principal, row: Row | None) -> Row:
    """Returns what /v1/schedules/{id} shows to this key."""
    if (
        row is None
        or row["deleted_at"] is not None
        or row["run_at"] is None
        or not principal.permits(row["account_id"])
    ):
        raise not_found("Schedule")
    return row


def require_permitted(principal: Principal, account_id: UUID) -> None:
    """Refuses an account that the key may not use, before anything of it is looked up."""
    if not principal.permits(account_id):
        message = f"account_id: this API key may not publish to {account_id}."
        raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)


def require_destination(checks: Mapping[Destination, BoardCheck], destination: Destination) -> None:
    """Refuses an account or board that failed its check."""
    check = checks.get(destination, BoardCheck.KNOWN)
    if check is not BoardCheck.KNOWN:
        failure = build_failure(check, destination)
        raise ApiError(ErrorCode(failure.error_code), failure.error_message)


def require_future(run_at: datetime | None, now: datetime) -> None:
    if run_at is None or run_at <= now:
        raise ApiError(ErrorCode.RUN_AT_IN_PAST, "run_at: must lie in the future.")


# What owns the idempotency key of a pin or schedule to create

_KEY_NOT_VISIBLE = (
    "This idempotency key is taken by what this API key can't be shown; choose a different one."
)
"""Of another account, or of another key with the same hash."""


def resolve_existing(principal: Principal, key: str, row: Row) -> Row:
    """Returns the pin that the same request would have made."""
    if not _owns_key(principal, key, row):
        raise ApiError(ErrorCode.IDEMPOTENCY_CONFLICT, _KEY_NOT_VISIBLE, HTTPStatus.CONFLICT)
    if row["deleted_at"] is not None:
        raise _conflict_error(
            ErrorCode.PIN_DELETED,
            "The pin under this key has been deleted; its key stays taken.",
            row,
        )
    match PinState(row["state"]):
        case PinState.PUBLISHED | PinState.FAILED:
            return row
        case PinState.SCHEDULED | PinState.CANCELED:
            schedule_id = derive_schedule_id(row["pin_id"])
            message = "This key belongs to a schedule."
            raise _conflict_error(
                ErrorCode.ALREADY_SCHEDULED, message, row, schedule_id=str(schedule_id)
            )
        case state:
            assert_never(state)


def resolve_replay(principal: Principal, key: str, fingerprint: UUID, row: Row) -> Row:
    """Returns the schedule that the same request made before."""
    # The same content was for the same account; a retry may have moved it since to one that the key
    # may not use
    if (
        not _owns_key(principal, key, row)
        or row["fingerprint"] != fingerprint
        or row["run_at"] is None
    ):
        message = (
            "This idempotency key belongs to a pin or schedule with another content or account."
        )
        raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)
    if row["deleted_at"] is not None:
        raise _conflict_error(
            ErrorCode.PIN_DELETED,
            "The schedule under this key has been deleted; its key stays taken.",
            row,
        )
    return row


def _owns_key(principal: Principal, key: str, row: Row) -> bool:
    """Tells whether the row has the key, not only its hash, and the principal may see it."""
    owner = (row["workspace_id"], row["idempotency_key"])
    return owner == (principal.workspace_id, key) and principal.permits(row["account_id"])


# Pins


def edit_pin(principal: Principal, changes: Mapping[str, Any], row: Row | None) -> Update:
    pin = require_pin(principal, row)
    _require_unpublished(
        pin,
        "A published pin can't be edited. Delete it and publish a corrected one under another key.",
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

    `target` has another account or board, if the request names one. `checks` are of the
    destinations as they were before the lock.
    """
    pin = require_pin(principal, row)
    _require_unpublished(pin, "This pin is published.")
    if pin["state"] != PinState.FAILED:
        raise _conflict_error(
            ErrorCode.PIN_NOT_FAILED, "This pin has not failed: it is about to be published.", pin
        )
    # One that is not among them was edited in between, and checked for that
    require_destination(checks, build_retry_destination(pin, target))
    published = {
        "state": PinState.PUBLISHED,
        "published_at": pin["now"],
        "error_code": None,
        "error_message": None,
    }
    return Update({**target, **published}, PinChange.PUBLISHED)


def build_retry_destination(pin: Row, target: Mapping[str, Any]) -> Destination:
    """Returns where a retry publishes the pin to."""
    return Destination(
        pin["workspace_id"],
        target.get("account_id", pin["account_id"]),
        target.get("board_id", pin["board_id"]),
    )


def build_edited_destination(row: Row, update: Update) -> Destination:
    """Returns the destination after an edit of `board_id`.

    The account stays: it changes only when the pin is published, and then an edit is refused.
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
    """Cancels a schedule. One that is due can be cancelled until the scheduler has taken it."""
    schedule = require_schedule(principal, row)
    match PinState(schedule["state"]):
        case PinState.SCHEDULED:
            return Update({"state": PinState.CANCELED})
        case PinState.CANCELED:
            return NoOp("This schedule is cancelled already.")
        case PinState.PUBLISHED | PinState.FAILED:
            raise _not_pending_error(schedule)
        case state:
            assert_never(state)


def retry_schedule(principal: Principal, row: Row | None) -> Decision:
    """Revives a schedule. Its account and board are checked when it is due, as every schedule's."""
    schedule = require_schedule(principal, row)
    match PinState(schedule["state"]):
        case PinState.FAILED | PinState.CANCELED:
            revived = {"state": PinState.SCHEDULED, "error_code": None, "error_message": None}
            return Update(revived, PinChange.RESCHEDULED)
        case PinState.SCHEDULED:
            return NoOp("This schedule is waiting for its time already.")
        case PinState.PUBLISHED:
            raise _already_done_error(schedule, "This schedule is done: its pin is published.")
        case state:
            assert_never(state)


def delete_schedule(principal: Principal, row: Row | None) -> Update:
    schedule = require_schedule(principal, row)
    # There is one row for both
    if schedule["state"] == PinState.PUBLISHED:
        raise _already_done_error(schedule, "This schedule is done: delete its pin.")
    return _delete(schedule)


def _delete(row: Row) -> Update:
    # One that waits is cancelled with it: the scheduler looks at the state only
    state = PinState.CANCELED if row["state"] == PinState.SCHEDULED else row["state"]
    return Update({"state": state, "deleted_at": row["now"]})


def _require_unpublished(pin: Row, message: str) -> None:
    if pin["state"] == PinState.PUBLISHED:
        raise _conflict_error(ErrorCode.PIN_ALREADY_PUBLISHED, message, pin)


def _already_done_error(schedule: Row, message: str) -> ApiError:
    return _conflict_error(ErrorCode.SCHEDULE_ALREADY_PUBLISHED, message, schedule)


def _not_pending_error(schedule: Row) -> ApiError:
    state = "due" if schedule["state"] == PinState.SCHEDULED else schedule["state"]
    message = f"This schedule is {state}: only one that waits for its time can be changed."
    if schedule["state"] == PinState.FAILED:
        message = (
            f"This schedule has failed: correct its pin (PATCH /v1/pins/{schedule['pin_id']}), "
            "then retry it."
        )
    return _conflict_error(ErrorCode.SCHEDULE_NOT_PENDING, message, schedule)


def _conflict_error(code: ErrorCode, message: str, row: Row, **details: Any) -> ApiError:
    return ApiError(code, message, HTTPStatus.CONFLICT, pin_id=str(row["pin_id"]), **details)
