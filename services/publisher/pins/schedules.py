"""Single schedules: made, edited, cancelled, revived, deleted; the scheduler publishes them."""

from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from services.publisher.pins.changes import Changes
from services.publisher.pins.commands import Direct, PinCommands, Verdict
from services.publisher.pins.repository import PinQueries
from services.publisher.pins.requests import SCHEDULE_FIELDS, given_of, schedule_of
from services.publisher.pins.transitions import (
    cancel_schedule,
    delete_schedule,
    edit_schedule,
    require_destination,
    require_permitted,
    retry_schedule,
    run_at_in_past,
    same_schedule,
)
from shared.access.cache import BoardDirectory
from shared.access.model import Destination, Principal
from shared.contract.errors import ErrorCode, RequestRefused
from shared.contract.events import PinContent
from shared.http.requests import object_of
from shared.postgres.row import Row


class Schedules:
    """By their pins' ids. Raises RequestRefused."""

    def __init__(
        self, queries: PinQueries, commands: PinCommands, boards: BoardDirectory, changes: Changes
    ) -> None:
        self._queries = queries
        self._commands = commands
        self._boards = boards
        self._changes = changes

    async def create(self, who: Principal, document: object, key: str | None) -> tuple[Row, bool]:
        """Returns what stands under the key, and whether this call made it."""
        content = schedule_of(
            document, made_key() if (given := given_key(document, key)) is None else given
        )
        require_permitted(who, content.account_id)
        schedule = Direct.of(who.workspace_id, content)
        refusal = await self._refusal(who, content)
        if refusal is None:
            row, made = await self._commands.schedule_directly(schedule)
        elif (stands := await self._queries.any(who.workspace_id, schedule.pin_id)) is not None:
            # A request that is repeated is answered the same, whatever its account and the time
            # have become since
            row, made = stands, False
        else:
            raise refusal
        return same_schedule(who, content.idempotency_key, schedule.fingerprint, row), made

    async def _refusal(self, who: Principal, content: PinContent) -> RequestRefused | None:
        destination = Destination(who.workspace_id, content.account_id, content.board_id)
        try:
            require_destination(await self._boards.failing([destination]), destination)
            require_future(content.run_at)
        except RequestRefused as refusal:
            return refusal
        return None

    async def edit(self, who: Principal, pin_id: UUID, document: object) -> Row:
        given = given_of(document, SCHEDULE_FIELDS)
        return await self._changes.edit(
            who.workspace_id, pin_id, partial(edit_schedule, who, given)
        )

    async def cancel(self, who: Principal, pin_id: UUID) -> Row:
        return await self._changes.one(who.workspace_id, pin_id, partial(cancel_schedule, who))

    async def retry(self, who: Principal, pin_id: UUID) -> Row:
        return await self._changes.one(who.workspace_id, pin_id, partial(retry_schedule, who))

    async def delete(self, who: Principal, pin_id: UUID) -> Row:
        return await self._changes.one(who.workspace_id, pin_id, partial(delete_schedule, who))

    async def cancel_all(self, who: Principal, pin_ids: Collection[UUID]) -> dict[UUID, Verdict]:
        return await self._changes.each(who.workspace_id, pin_ids, partial(cancel_schedule, who))

    async def retry_all(self, who: Principal, pin_ids: Collection[UUID]) -> dict[UUID, Verdict]:
        return await self._changes.each(who.workspace_id, pin_ids, partial(retry_schedule, who))

    async def delete_all(self, who: Principal, pin_ids: Collection[UUID]) -> dict[UUID, Verdict]:
        return await self._changes.each(who.workspace_id, pin_ids, partial(delete_schedule, who))


def given_key(document: object, header: str | None) -> Any:
    """The key of the header `Idempotency-Key`, or of the body, not checked yet; None when it is the
    server's to make.
    """
    key = object_of(document).get("idempotency_key")
    if header is None or key is None:
        return key if header is None else header
    if header != (key.strip() if isinstance(key, str) else key):
        raise RequestRefused(
            ErrorCode.INVALID_PARAMETER,
            "Idempotency-Key: is not the idempotency_key of the body. Send one of them.",
        )
    return header


def made_key() -> str:
    return f"schedule-{uuid4()}"


def require_future(run_at: datetime | None) -> None:
    if run_at is None or run_at <= datetime.now(UTC):
        raise run_at_in_past()
