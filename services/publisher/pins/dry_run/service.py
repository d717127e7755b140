"""Checks a pin or schedule without creating it. Stores nothing."""

from datetime import UTC, datetime

from services.publisher.pins.dry_run.checks import Snapshot, check_pin, check_schedule
from services.publisher.pins.dry_run.partial_request import PartialRequest
from services.publisher.pins.dry_run.report import Report
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.request_bodies import (
    CONTENT_FIELDS,
    PinForNow,
    ScheduleSubmission,
    generate_key,
    read_requested_key,
)
from shared.access.model import DestinationCheck, Principal
from shared.access.repository import AccessRepository
from shared.http.requests import require_object
from shared.postgres.row import Row


class DryRunService:
    """The use cases of dry runs.

    Raises ApiError only if the body is not an object, or if the header and the body have different
    idempotency keys.
    """

    def __init__(self, pins: PinRepository, access: AccessRepository) -> None:
        self._pins = pins
        self._access = access

    async def check_pin(self, principal: Principal, document: object, header: str | None) -> Report:
        """Checks a pin. `header` is the request's Idempotency-Key."""
        key = read_requested_key(document, header)
        named = {} if key is None else {"idempotency_key": key}
        request = PartialRequest(PinForNow, {**require_object(document), **named}, CONTENT_FIELDS)
        board = await self._check_board(principal, request)
        owner = await self._find_owner(principal, request)
        return check_pin(principal, request, Snapshot.build(board, owner))

    async def check_schedule(
        self, principal: Principal, document: object, header: str | None
    ) -> Report:
        """Checks a schedule. `header` is the request's Idempotency-Key."""
        key = read_requested_key(document, header)
        keyed = {
            **require_object(document),
            "idempotency_key": generate_key() if key is None else key,
        }
        request = PartialRequest(ScheduleSubmission, keyed, CONTENT_FIELDS)
        board = await self._check_board(principal, request)
        owner = None if key is None else await self._find_owner(principal, request)
        snapshot = Snapshot.build(board, owner)
        now = datetime.now(UTC)
        return check_schedule(principal, request, snapshot, now, has_key=key is not None)

    async def _check_board(
        self, principal: Principal, request: PartialRequest
    ) -> DestinationCheck | None:
        if (destination := request.find_destination(principal)) is None:
            return None
        return (await self._access.check_destinations([destination]))[destination]

    async def _find_owner(self, principal: Principal, request: PartialRequest) -> Row | None:
        if (pin_id := request.find_pin_id(principal)) is None:
            return None
        return await self._pins.find_of_key(principal.workspace_id, pin_id)
