"""Decides the results of a dry run's checks from the request, its board and its key. No I/O."""

from datetime import datetime
from typing import Any, NamedTuple, assert_never
from uuid import UUID

from services.publisher.model import build_failure
from services.publisher.pins.creation import (
    OnMismatch,
    compare_with_pin,
    resolve_existing,
    resolve_repeated_schedule,
)
from services.publisher.pins.dry_run.partial_request import PartialRequest
from services.publisher.pins.dry_run.report import (
    Check,
    CheckName,
    Report,
    failed,
    passed,
    skipped,
    warned,
)
from services.publisher.pins.transitions import require_future
from shared.access.model import (
    BoardCheck,
    BoardName,
    BoardResult,
    DestinationCheck,
    Principal,
    SimilarBoard,
)
from shared.contract.delivery_advice import MESSAGES, find_advice
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROW_FAULTS
from shared.postgres.row import Row

_ACCOUNT_FAILED = "Not checked, because the check of the account failed."


class Snapshot(NamedTuple):
    """The stored data that a request is checked against."""

    board: BoardResult | None
    """The result of the board's check. None if it was not checked."""
    owner: Row | None
    """The stored pin with the request's key. None if there is none or it was not looked up."""
    is_connected: bool
    """True if the pin would be delivered to Pinterest."""

    @classmethod
    def build(cls, check: DestinationCheck | None, owner: Row | None) -> "Snapshot":
        board, is_connected = (None, False) if check is None else check
        return cls(board, owner, is_connected)


def check_pin(principal: Principal, request: PartialRequest, snapshot: Snapshot) -> Report:
    run_at_check = request.find_failed_check(CheckName.RUN_AT)
    checks = [
        _check_fields(request),
        _check_account(principal, request, snapshot),
        _check_board(principal, request, snapshot.board),
        _check_media(request, snapshot),
        _check_pin_key(principal, request, snapshot.owner),
        *([run_at_check] if run_at_check else []),
        *_check_delivery(request, snapshot),
    ]
    return Report(checks, request.dump_content(), _find_visible_id(principal, snapshot.owner))


def check_schedule(
    principal: Principal,
    request: PartialRequest,
    snapshot: Snapshot,
    now: datetime,
    *,
    has_key: bool,
) -> Report:
    """Checks a schedule. `has_key` is false if the server would generate the key."""
    checks = [
        _check_fields(request),
        _check_account(principal, request, snapshot),
        _check_board(principal, request, snapshot.board),
        _check_media(request, snapshot),
        _check_run_at(request, now),
        *_check_delivery(request, snapshot),
    ]
    if not has_key:
        message = (
            "The request has no key. The server generates one, so the same request creates a new "
            "schedule each time."
        )
        generated = skipped(CheckName.KEY, message)
        return Report([*checks, generated], request.dump_content("idempotency_key"))
    key = _check_schedule_key(principal, request, snapshot.owner)
    existing_id = _find_visible_id(principal, snapshot.owner)
    return Report([*checks, key], request.dump_content(), existing_id)


def _check_fields(request: PartialRequest) -> Check:
    if (failed_check := request.find_failed_check(CheckName.FIELDS)) is not None:
        return failed_check
    if unknown := request.unknown_names[:MAX_ROW_FAULTS]:
        message = f"Unknown fields are ignored: {', '.join(unknown)}."
        return warned(CheckName.FIELDS, ErrorCode.UNKNOWN_FIELDS, message, fields=unknown)
    return passed(CheckName.FIELDS, "All fields are valid.")


def _check_media(request: PartialRequest, snapshot: Snapshot) -> Check:
    if (failed_check := request.find_failed_check(CheckName.MEDIA)) is not None:
        return failed_check
    if request.read_value("asset_id") is not None:
        message = (
            "asset_id can't be delivered, because Pinflow stores no assets: the pin would fail "
            "with media_rejected. Use image_url."
            if snapshot.is_connected
            else "asset_id is stored as it is. Pinflow does not check that the asset exists."
        )
        return warned(CheckName.MEDIA, ErrorCode.ASSET_NOT_CHECKED, message)
    return passed(CheckName.MEDIA, "image_url has a valid form. Pinflow does not fetch it.")


def _check_delivery(request: PartialRequest, snapshot: Snapshot) -> list[Check]:
    """Warns of what Pinterest would not take. Empty if there is nothing of that kind.

    One check has all warnings: its code is that of the first, and its details name all codes.
    """
    if not snapshot.is_connected:
        return []
    covers = (request.read_value("cover_image_url"), request.read_value("cover_image_asset_id"))
    codes = find_advice(
        image_url=request.read_value("image_url"),
        has_cover=any(cover is not None for cover in covers),
        related_terms=request.read_value("related_terms"),
        link_url=request.read_value("link_url"),
    )
    if not codes:
        return []
    message = " ".join(MESSAGES[code] for code in codes)
    return [warned(CheckName.DELIVERY, codes[0], message, codes=codes)]


def _check_run_at(request: PartialRequest, now: datetime) -> Check:
    if (failed_check := request.find_failed_check(CheckName.RUN_AT)) is not None:
        return failed_check
    try:
        require_future(request.read_value("run_at"), now)
    except ApiError as error:
        return failed(CheckName.RUN_AT, error.code, error.message)
    return passed(CheckName.RUN_AT, "run_at is in the future.")


def _check_account(principal: Principal, request: PartialRequest, snapshot: Snapshot) -> Check:
    if (failed_check := request.find_failed_check(CheckName.ACCOUNT)) is not None:
        return failed_check
    if (destination := request.find_destination(principal)) is None:
        message = "This API key may not publish to this account."
        return failed(CheckName.ACCOUNT, ErrorCode.ACCOUNT_NOT_PERMITTED, message)
    if snapshot.board is BoardCheck.NO_ACCOUNT:
        return failed(CheckName.ACCOUNT, *build_failure(snapshot.board, destination))
    message = "The workspace has this account."
    if snapshot.is_connected:
        message += " Its pins are queued and delivered to Pinterest."
    return passed(CheckName.ACCOUNT, message)


def _check_board(principal: Principal, request: PartialRequest, board: BoardResult | None) -> Check:
    if (failed_check := request.find_failed_check(CheckName.BOARD)) is not None:
        return failed_check
    destination = request.find_destination(principal)
    if destination is None or board is None:
        return skipped(CheckName.BOARD, _ACCOUNT_FAILED)
    match board:
        case BoardCheck.KNOWN:
            return passed(CheckName.BOARD, "The account has this board.")
        case BoardCheck.NO_ACCOUNT:
            return skipped(CheckName.BOARD, _ACCOUNT_FAILED)
        case BoardCheck.NO_BOARD | BoardName() | SimilarBoard():
            return failed(CheckName.BOARD, *build_failure(board, destination))
        case _:
            assert_never(board)


def _check_pin_key(principal: Principal, request: PartialRequest, owner: Row | None) -> Check:
    if owner is None:
        return _check_free_key(principal, request)
    try:
        resolve_existing(principal, request.read_value("idempotency_key"), owner)
    except ApiError as error:
        return failed(CheckName.KEY, error.code, error.message, **error.details)
    return _warn_of_taken_key(request, owner)


def _check_schedule_key(principal: Principal, request: PartialRequest, owner: Row | None) -> Check:
    if owner is None:
        return _check_free_key(principal, request)
    if request.content is None:
        message = "The key is taken. Its content can't be compared until all fields are valid."
        return skipped(CheckName.KEY, message)
    try:
        resolve_repeated_schedule(principal, request.content, owner)
    except ApiError as error:
        return failed(CheckName.KEY, error.code, error.message, **error.details)
    return _warn_of_taken_key(request, owner)


def _check_free_key(principal: Principal, request: PartialRequest) -> Check:
    """Checks a key that has no owner or whose owner was not looked up."""
    if (failed_check := request.find_failed_check(CheckName.KEY)) is not None:
        return failed_check
    if request.find_pin_id(principal) is None:
        return skipped(CheckName.KEY, _ACCOUNT_FAILED)
    return passed(CheckName.KEY, "The key is free.")


def _warn_of_taken_key(request: PartialRequest, owner: Row) -> Check:
    message = (
        "The key is taken. The request would return the existing pin or schedule and create "
        "nothing."
    )
    details: dict[str, Any] = {}
    if request.content is not None:
        comparison = compare_with_pin(request.content, owner, OnMismatch.RETURN)
        details["payload_matches"] = comparison.payload_matches
        details["differing_fields"] = comparison.dump_differing_fields()
    return warned(CheckName.KEY, ErrorCode.IDEMPOTENCY_KEY_TAKEN, message, **details)


def _find_visible_id(principal: Principal, owner: Row | None) -> UUID | None:
    if owner is None or not principal.permits(owner["account_id"]):
        return None
    pin_id: UUID = owner["pin_id"]
    return pin_id
