"""Tells what would become of a pin or schedule, check by check. Stores nothing."""

from datetime import UTC, datetime

from services.publisher.pins.dry_run.attempt import Attempt
from services.publisher.pins.dry_run.checks import Snapshot, check_pin, check_schedule
from services.publisher.pins.dry_run.report import Report
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.requests import (
    CONTENT_FIELDS,
    PinForNow,
    ScheduleSubmission,
    generate_key,
    requested_key,
)
from shared.access.model import BoardCheck, Principal
from shared.access.repository import AccessRepository
from shared.http.requests import object_of
from shared.postgres.row import Row


class DryRunService:
    """Raises ApiError only for what is no object, or comes with two keys."""

    def __init__(self, pins: PinRepository, access: AccessRepository) -> None:
        self._pins = pins
        self._access = access

    async def check_pin(self, principal: Principal, document: object) -> Report:
        attempt = Attempt(PinForNow, object_of(document), CONTENT_FIELDS)
        board = await self._check_board(principal, attempt)
        owner = await self._find_owner(principal, attempt)
        return check_pin(principal, attempt, Snapshot(board, owner))

    async def check_schedule(
        self, principal: Principal, document: object, header: str | None
    ) -> Report:
        """Checks a schedule. `header` is the request's Idempotency-Key."""
        key = requested_key(document, header)
        keyed = {
            **object_of(document),
            "idempotency_key": generate_key() if key is None else key,
        }
        attempt = Attempt(ScheduleSubmission, keyed, CONTENT_FIELDS)
        board = await self._check_board(principal, attempt)
        owner = None if key is None else await self._find_owner(principal, attempt)
        snapshot = Snapshot(board, owner)
        now = datetime.now(UTC)
        return check_schedule(principal, attempt, snapshot, now, has_key=key is not None)

    async def _check_board(self, principal: Principal, attempt: Attempt) -> BoardCheck | None:
        if (destination := attempt.destination(principal)) is None:
            return None
        return (await self._access.check_boards([destination]))[destination]

    async def _find_owner(self, principal: Principal, attempt: Attempt) -> Row | None:
        if (pin_id := attempt.pin_id(principal)) is None:
            return None
        return await self._pins.find(principal.workspace_id, pin_id)
