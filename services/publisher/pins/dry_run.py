"""A dry run: what would become of a pin or schedule, check by check; nothing is stored."""

from uuid import UUID

from services.publisher.ids import pin_id_of
from services.publisher.pins.checks import (
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
from services.publisher.pins.repository import PinQueries
from services.publisher.pins.requests import PinForNow, ScheduleSubmission
from services.publisher.pins.schedules import given_key, made_key
from services.publisher.pins.transitions import same_schedule, usable
from services.publisher.rows.outcomes import failure_of
from shared.access.model import BoardCheck, Destination, Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ErrorCode, RequestRefused
from shared.contract.pins import fingerprint
from shared.http.requests import object_of
from shared.postgres.row import Row

_ACCOUNT_FIRST = "Its account must be right first."


class Validation:
    """Raises RequestRefused only for what is no object, or comes with two keys."""

    def __init__(self, queries: PinQueries, access: AccessRepository) -> None:
        self._queries = queries
        self._access = access

    async def pin(self, who: Principal, document: object) -> Report:
        attempt = Attempt(PinForNow, object_of(document), PinForNow.model_fields.keys())
        account, board = await self._check_destination(who, attempt)
        key, existing = await self._check_key(who, attempt)
        late = attempt.wrong(CheckName.RUN_AT)
        checks = [
            check_fields(attempt),
            account,
            board,
            check_media(attempt),
            key,
            *([late] if late else []),
        ]
        return Report(checks, attempt.resolved(), existing)

    async def schedule(self, who: Principal, document: object, header: str | None) -> Report:
        given = given_key(document, header)
        keyed = {**object_of(document), "idempotency_key": made_key() if given is None else given}
        attempt = Attempt(ScheduleSubmission, keyed, ScheduleSubmission.model_fields.keys())
        account, board = await self._check_destination(who, attempt)
        checks = [
            check_fields(attempt),
            account,
            board,
            check_media(attempt),
            check_run_at(attempt),
        ]
        if given is None:
            made = skipped(
                CheckName.KEY,
                "None was given: the server makes one, and the same request again makes a second "
                "schedule.",
            )
            return Report([*checks, made], attempt.resolved("idempotency_key"))
        key, existing = await self._check_key_of_schedule(who, attempt)
        return Report([*checks, key], attempt.resolved(), existing)

    async def _check_destination(self, who: Principal, attempt: Attempt) -> tuple[Check, Check]:
        account_id, board_id = attempt.value("account_id"), attempt.value("board_id")
        wrong, wrong_board = attempt.wrong(CheckName.ACCOUNT), attempt.wrong(CheckName.BOARD)
        if wrong is None and not who.permits(account_id):
            wrong = failed(
                CheckName.ACCOUNT,
                ErrorCode.ACCOUNT_NOT_PERMITTED,
                "This API key may not publish to this account.",
            )
        if wrong is not None:
            return wrong, wrong_board or skipped(CheckName.BOARD, _ACCOUNT_FIRST)
        destination = Destination(who.workspace_id, account_id, board_id or "")
        known = (await self._access.check_boards([destination]))[destination]
        if known is BoardCheck.NO_ACCOUNT:
            account = failed(CheckName.ACCOUNT, *failure_of(known, destination))
            return account, wrong_board or skipped(CheckName.BOARD, _ACCOUNT_FIRST)
        return passed(
            CheckName.ACCOUNT, "The workspace has this account."
        ), wrong_board or check_board(known, destination)

    async def _check_key(self, who: Principal, attempt: Attempt) -> tuple[Check, UUID | None]:
        """And the pin that has the key."""
        row = await self._standing(who, attempt)
        if isinstance(row, Check):
            return row, None
        try:
            usable(who, attempt.value("idempotency_key"), row)
        except RequestRefused as refusal:
            return key_refused(refusal), _shown(who, row)
        return key_taken(row, attempt.content), row["pin_id"]

    async def _check_key_of_schedule(
        self, who: Principal, attempt: Attempt
    ) -> tuple[Check, UUID | None]:
        row = await self._standing(who, attempt)
        if isinstance(row, Check):
            return row, None
        if attempt.content is None:
            return skipped(
                CheckName.KEY, "The key is taken: by the same content or not, can't be told yet."
            ), _shown(who, row)
        try:
            same_schedule(who, attempt.content.idempotency_key, fingerprint(attempt.content), row)
        except RequestRefused as refusal:
            return key_refused(refusal), _shown(who, row)
        return key_taken(row, attempt.content), row["pin_id"]

    async def _standing(self, who: Principal, attempt: Attempt) -> Row | Check:
        """What has the key; or the check, when nothing has, or when it isn't looked for."""
        if (wrong := attempt.wrong(CheckName.KEY)) is not None:
            return wrong
        # What stands there says whether a guess at another account's content was right
        if not who.permits(attempt.value("account_id")):
            return skipped(CheckName.KEY, _ACCOUNT_FIRST)
        row = await self._queries.any(
            who.workspace_id, pin_id_of(who.workspace_id, attempt.value("idempotency_key"))
        )
        return passed(CheckName.KEY, "The key is free.") if row is None else row


def _shown(who: Principal, row: Row) -> UUID | None:
    return row["pin_id"] if who.permits(row["account_id"]) else None
