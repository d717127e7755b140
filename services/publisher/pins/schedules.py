"""Creates, edits, cancels, retries and deletes schedules. The scheduler publishes them."""

from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from services.publisher.pins import creation, transitions
from services.publisher.pins.creation import NewPin, PinOfKey
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.request_bodies import (
    EDITABLE_SCHEDULE_FIELDS,
    generate_key,
    parse_changes,
    parse_schedule,
    read_requested_key,
)
from services.publisher.pins.transitions import CommandResult
from shared.access.cache import BoardCache
from shared.access.model import DestinationChecks, Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ApiError
from shared.postgres.row import Row


class ScheduleService:
    """The use cases of schedules. Raises ApiError.

    Methods identify a schedule by its pin's id.
    """

    def __init__(self, pins: PinRepository, boards: BoardCache, access: AccessRepository) -> None:
        self._pins = pins
        self._boards = boards
        self._access = access

    async def get(self, principal: Principal, pin_id: UUID) -> Row:
        return transitions.require_schedule(principal, await self._find(principal, pin_id))

    async def create(self, principal: Principal, document: object, header: str | None) -> PinOfKey:
        """Creates a schedule. `header` is the request's Idempotency-Key."""
        key = read_requested_key(document, header)
        content = parse_schedule(document, generate_key() if key is None else key)
        schedule = NewPin.create(principal, content)
        checks = await self._boards.check([schedule.destination])
        error = _find_error(schedule, checks)
        if error is None:
            pin_of_key = await self._pins.schedule(schedule.mark(checks))
        elif (row := await self._find_of_key(principal, schedule)) is not None:
            # A repeated request gets the same answer, even if its account is gone or run_at has
            # passed
            pin_of_key = PinOfKey(row, is_new=False)
        else:
            raise error
        creation.resolve_repeated_schedule(principal, content, pin_of_key.row)
        return pin_of_key

    async def edit(self, principal: Principal, pin_id: UUID, document: object) -> Row:
        changes = parse_changes(document, EDITABLE_SCHEDULE_FIELDS)
        if "board_id" in changes:
            # The board is checked before the lock, so that the row is not locked during the check.
            # The edit is decided again under the lock
            schedule = transitions.require_schedule(principal, await self._find(principal, pin_id))
            planned = transitions.edit_schedule(principal, changes, schedule)
            destination = transitions.build_edited_destination(schedule, planned)
            checks = await self._access.check_boards([destination])
            transitions.require_destination(checks, destination)
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            update = transitions.edit_schedule(principal, changes, current.row)
            return await current.apply(update)

    async def cancel(self, principal: Principal, pin_id: UUID) -> Row:
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            return await current.apply(transitions.cancel_schedule(principal, current.row))

    async def retry(self, principal: Principal, pin_id: UUID) -> Row:
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            return await current.apply(transitions.retry_schedule(principal, current.row))

    async def delete(self, principal: Principal, pin_id: UUID) -> Row:
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            return await current.apply(transitions.delete_schedule(principal, current.row))

    async def cancel_all(
        self, principal: Principal, pin_ids: Collection[UUID]
    ) -> dict[UUID, CommandResult]:
        async with self._pins.locked_all(principal.workspace_id, pin_ids) as current:
            cancel_schedule = partial(transitions.cancel_schedule, principal)
            return await current.apply(transitions.decide_each(current.rows, cancel_schedule))

    async def retry_all(
        self, principal: Principal, pin_ids: Collection[UUID]
    ) -> dict[UUID, CommandResult]:
        async with self._pins.locked_all(principal.workspace_id, pin_ids) as current:
            retry_schedule = partial(transitions.retry_schedule, principal)
            return await current.apply(transitions.decide_each(current.rows, retry_schedule))

    async def delete_all(
        self, principal: Principal, pin_ids: Collection[UUID]
    ) -> dict[UUID, CommandResult]:
        async with self._pins.locked_all(principal.workspace_id, pin_ids) as current:
            delete_schedule = partial(transitions.delete_schedule, principal)
            return await current.apply(transitions.decide_each(current.rows, delete_schedule))

    async def _find_of_key(self, principal: Principal, pin: NewPin) -> Row | None:
        return await self._pins.find_of_key(principal.workspace_id, pin.pin_id)

    async def _find(self, principal: Principal, pin_id: UUID) -> Row | None:
        return await self._pins.find(principal.workspace_id, pin_id)


def _find_error(schedule: NewPin, checks: DestinationChecks) -> ApiError | None:
    """Returns the error of a new schedule's account, board or `run_at`, or None.

    Does not raise it: an earlier, equal request may have created the schedule when all three were
    valid.
    """
    try:
        transitions.require_destination(checks.failing, schedule.destination)
        transitions.require_future(schedule.content.run_at, datetime.now(UTC))
    except ApiError as error:
        return error
    return None
