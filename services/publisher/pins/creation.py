"""Decides what a request that creates a pin or schedule gets. Pure rules: no I/O.

The stored pin of its idempotency key may be new, equal or different. Every rule raises ApiError if
the request is not allowed.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple, assert_never
from uuid import UUID

from services.publisher.existing_pins import ContentComparison, compare_content
from services.publisher.ids import compute_pin_id
from services.publisher.model import PinState
from services.publisher.pins.transitions import build_conflict, require_permitted
from shared.access.model import Destination, DestinationChecks, Principal
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.pins import PinSubmission, compute_fingerprint
from shared.contract.schedule_ids import derive_schedule_id
from shared.postgres.row import Row

_KEY_NOT_VISIBLE = (
    "This idempotency key is taken by a pin that this API key may not see. Use a different "
    "idempotency key."
)
"""The error of a pin that belongs to another account, or to another key with the same hash."""


class NewPin(NamedTuple):
    """A pin or schedule to create for a direct call."""

    pin_id: UUID
    workspace_id: UUID
    content: PinSubmission
    fingerprint: UUID
    is_connected: bool = False
    """True if the account was ever connected to Pinterest: the pin is queued for delivery."""

    @classmethod
    def create(cls, principal: Principal, content: PinSubmission) -> "NewPin":
        """Builds the pin. Raises ApiError (403) if the API key may not publish to the account."""
        require_permitted(principal, content.account_id)
        pin_id = compute_pin_id(principal.workspace_id, content.idempotency_key)
        return cls(pin_id, principal.workspace_id, content, compute_fingerprint(content))

    @property
    def destination(self) -> Destination:
        return Destination(self.workspace_id, self.content.account_id, self.content.board_id)

    def mark(self, checks: DestinationChecks) -> "NewPin":
        """Returns the pin with the answer whether its account is connected."""
        return self._replace(is_connected=self.destination in checks.connected)


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


def resolve_existing(principal: Principal, key: str, row: Row) -> Row:
    """Returns the existing pin of the key, for a request that would create one."""
    if not _owns_key(principal, key, row):
        raise ApiError(ErrorCode.IDEMPOTENCY_CONFLICT, _KEY_NOT_VISIBLE, HTTPStatus.CONFLICT)
    if row["deleted_at"] is not None:
        raise build_conflict(
            ErrorCode.PIN_DELETED,
            "The pin with this idempotency key was deleted. The key stays taken: use a "
            "different one.",
            row,
        )
    match PinState(row["state"]):
        case (
            PinState.PUBLISHED
            | PinState.FAILED
            | PinState.QUEUED
            | PinState.PUBLISHING
            | PinState.CONFIRMING
        ):
            return row
        case PinState.SCHEDULED | PinState.CANCELED:
            schedule_id = derive_schedule_id(row["pin_id"])
            message = (
                f"This idempotency key belongs to the schedule {schedule_id}. Use a different key."
            )
            raise build_conflict(
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
        raise build_conflict(
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
