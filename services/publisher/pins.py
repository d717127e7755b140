"""Single pins: published at once, under the same rules and the same keys as the rows of an import."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from services.publisher.commands import PinCommands
from services.publisher.identity import pin_id_of, schedule_id_of
from services.publisher.queries import PinQueries
from services.publisher.service import COLLISION, PinState, failure_of
from shared.access.directories import BoardDirectory
from shared.access.repository import Destination
from shared.database import Row
from shared.errors import ErrorCode, Overloaded, RequestRefused
from shared.events import PinContent
from shared.pins import PinSubmission, faults_of, fingerprint, first_fault


class Pins:
    def __init__(self, queries: PinQueries, commands: PinCommands, boards: BoardDirectory, most_at_once: int) -> None:
        self._queries = queries
        self._commands = commands
        self._boards = boards
        self._most_at_once = most_at_once
        self._at_once = 0

    async def publish(self, workspace_id: UUID, document: object) -> tuple[Row, bool]:
        """Publish one pin. Returns what stands under its key, and whether this call made it. Raises RequestRefused; Overloaded at once."""
        if self._at_once >= self._most_at_once:
            message = f"{self._at_once} pins are being published, as many as may be at once. Nothing was done."
            raise Overloaded(ErrorCode.OVERLOADED, message, retry_after=1, limit=self._most_at_once, current=self._at_once)
        self._at_once += 1
        try:
            return await self._publish(workspace_id, document)
        finally:
            self._at_once -= 1

    async def _publish(self, workspace_id: UUID, document: object) -> tuple[Row, bool]:
        content = parse_pin(document)
        pin_id = pin_id_of(workspace_id, content.idempotency_key)
        destination = Destination(workspace_id, content.account_id, content.board_id)
        failing = await self._boards.failing([destination])
        if destination in failing:
            # A key that is taken answers what stands under it, whatever its account has become since
            stands = await self._queries.any(workspace_id, pin_id)
            if stands is None:
                failure = failure_of(failing[destination], destination)
                raise RequestRefused(ErrorCode(failure.error_code), failure.error_message)
            return _usable(stands, workspace_id, content), False
        row, made = await self._commands.publish_directly(pin_id, workspace_id, content, fingerprint(content))
        return _usable(row, workspace_id, content), made


def parse_pin(document: object) -> PinContent:
    """Raises RequestRefused (422) with every fault."""
    if not isinstance(document, dict):
        raise RequestRefused(ErrorCode.INVALID_PAYLOAD, "Send one JSON object.")
    # A pin for a later time is a schedule: POST /v1/pins has no run_at
    fields = {name: value for name, value in document.items() if name != "run_at"}
    try:
        return PinContent.model_validate(PinSubmission.model_validate(fields).model_dump())
    except ValidationError as error:
        faults = faults_of(error)
        code, message = first_fault(faults)
        raise RequestRefused(code, message, errors=[fault.model_dump() for fault in faults]) from None


def _usable(row: Row, workspace_id: UUID, content: PinContent) -> Row:
    if (row["workspace_id"], row["idempotency_key"]) != (workspace_id, content.idempotency_key):
        raise RequestRefused(ErrorCode.IDEMPOTENCY_CONFLICT, COLLISION.error_message, HTTPStatus.CONFLICT)
    if row["deleted_at"] is not None:
        raise _conflict(ErrorCode.PIN_DELETED, "The pin under this key has been deleted; its key stays taken.", row)
    if row["state"] in {PinState.SCHEDULED, PinState.CANCELLED}:
        schedule_id = schedule_id_of(row["pin_id"])
        message = "This key belongs to a schedule."
        raise _conflict(ErrorCode.ALREADY_SCHEDULED, message, row, schedule_id=str(schedule_id))
    return row


def _conflict(code: ErrorCode, message: str, row: Row, **details: Any) -> RequestRefused:
    return RequestRefused(code, message, HTTPStatus.CONFLICT, pin_id=str(row["pin_id"]), **details)
