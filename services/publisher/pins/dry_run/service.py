"""Tells what would become of a pin or schedule, check by check. Stores nothing."""

from datetime import UTC, datetime
from uuid import UUID

from services.publisher.ids import pin_id_of
from services.publisher.model import failure_of
from services.publisher.pins.dry_run.checks import (
    Attempt,
    Check,
    CheckName,
    Report,
    check_board,
    check_fields,
    check_media,
    check_run_at,
    failed,
    key_refused,
    key_taken,
    passed,
    skipped,
)
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.requests import (
    CONTENT_FIELDS,
    PinForNow,
    ScheduleSubmission,
    generate_key,
    requested_key,
)
from services.publisher.pins.transitions import resolve_existing, resolve_replay
from shared.access.model import BoardCheck, Destination, Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ErrorCode, RequestRefused
from shared.contract.pins import fingerprint
from shared.http.requests import object_of
from shared.postgres.row import Row

_ACCOUNT_FIRST = "Its account must be right first."


class DryRunService:
    """Raises RequestRefused only for what is no object, or comes with two keys."""

    def __init__(self, pins: PinRepository, access: AccessRepository) -> None:
        self._pins = pins
        self._access = access

    async def check_pin(self, principal: Principal, document: object) -> Report:
        attempt = Attempt(PinForNow, object_of(document), CONTENT_FIELDS)
        account, board = await self._check_destination(principal, attempt)
        key_check, existing = await self._check_key(principal, attempt)
        late = attempt.wrong(CheckName.RUN_AT)
        checks = [
            check_fields(attempt),
            account,
            board,
            check_media(attempt),
            key_check,
            *([late] if late else []),
        ]
        return Report(checks, attempt.resolved(), existing)

    async def check_schedule(
        self, principal: Principal, document: object, header: str | None
    ) -> Report:
        requested = requested_key(document, header)
        key = generate_key() if requested is None else requested
        keyed = {**object_of(document), "idempotency_key": key}
        attempt = Attempt(ScheduleSubmission, keyed, CONTENT_FIELDS)
        account, board = await self._check_destination(principal, attempt)
        checks = [
            check_fields(attempt),
            account,
            board,
            check_media(attempt),
            check_run_at(attempt, datetime.now(UTC)),
        ]
        if requested is None:
            generated = skipped(
                CheckName.KEY,
                "None was given: the server makes one, and the same request again makes a second "
                "schedule.",
            )
            return Report([*checks, generated], attempt.resolved("idempotency_key"))
        key_check, existing = await self._check_schedule_key(principal, attempt)
        return Report([*checks, key_check], attempt.resolved(), existing)

    async def _check_destination(
        self, principal: Principal, attempt: Attempt
    ) -> tuple[Check, Check]:
        account_id, board_id = attempt.value("account_id"), attempt.value("board_id")
        wrong, wrong_board = attempt.wrong(CheckName.ACCOUNT), attempt.wrong(CheckName.BOARD)
        if wrong is None and not principal.permits(account_id):
            wrong = failed(
                CheckName.ACCOUNT,
                ErrorCode.ACCOUNT_NOT_PERMITTED,
                "This API key may not publish to this account.",
            )
        if wrong is not None:
            return wrong, wrong_board or skipped(CheckName.BOARD, _ACCOUNT_FIRST)
        destination = Destination(principal.workspace_id, account_id, board_id or "")
        check = (await self._access.check_boards([destination]))[destination]
        if check is BoardCheck.NO_ACCOUNT:
            account = failed(CheckName.ACCOUNT, *failure_of(check, destination))
            return account, wrong_board or skipped(CheckName.BOARD, _ACCOUNT_FIRST)
        account = passed(CheckName.ACCOUNT, "The workspace has this account.")
        return account, wrong_board or check_board(check, destination)

    async def _check_key(self, principal: Principal, attempt: Attempt) -> tuple[Check, UUID | None]:
        """Checks the key of a pin. Returns its owner's id too, if the principal may see it."""
        row = await self._find_owner(principal, attempt)
        if isinstance(row, Check):
            return row, None
        try:
            resolve_existing(principal, attempt.value("idempotency_key"), row)
        except RequestRefused as refusal:
            return key_refused(refusal), _visible_id(principal, row)
        return key_taken(row, attempt.content), row["pin_id"]

    async def _check_schedule_key(
        self, principal: Principal, attempt: Attempt
    ) -> tuple[Check, UUID | None]:
        """Checks the key of a schedule. Returns its owner's id too, if the principal may see it."""
        row = await self._find_owner(principal, attempt)
        if isinstance(row, Check):
            return row, None
        if attempt.content is None:
            return skipped(
                CheckName.KEY, "The key is taken: by the same content or not, can't be told yet."
            ), _visible_id(principal, row)
        try:
            resolve_replay(
                principal, attempt.content.idempotency_key, fingerprint(attempt.content), row
            )
        except RequestRefused as refusal:
            return key_refused(refusal), _visible_id(principal, row)
        return key_taken(row, attempt.content), row["pin_id"]

    async def _find_owner(self, principal: Principal, attempt: Attempt) -> Row | Check:
        """Finds the row that owns the key, or the check if nothing does or it isn't looked up."""
        if (wrong := attempt.wrong(CheckName.KEY)) is not None:
            return wrong
        # What stands there says whether a guess at another account's content was right
        if not principal.permits(attempt.value("account_id")):
            return skipped(CheckName.KEY, _ACCOUNT_FIRST)
        pin_id = pin_id_of(principal.workspace_id, attempt.value("idempotency_key"))
        row = await self._pins.find(principal.workspace_id, pin_id)
        return passed(CheckName.KEY, "The key is free.") if row is None else row


def _visible_id(principal: Principal, row: Row) -> UUID | None:
    return row["pin_id"] if principal.permits(row["account_id"]) else None
