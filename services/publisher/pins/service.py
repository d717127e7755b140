"""Publishes, edits, deletes and retries pins, by the same rules and keys as imported rows."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from services.publisher.pins import creation, transitions
from services.publisher.pins.creation import NewPin, OnMismatch, PinOfKey
from services.publisher.pins.removals import PinRemoval, RemovalReader
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.request_bodies import (
    EDITABLE_PIN_FIELDS,
    parse_changes,
    parse_pin,
    parse_retry,
)
from services.publisher.pins.transitions import CommandResult, RetryTarget, Update
from shared.access.cache import BoardCache
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.postgres.row import Row


class PinService:
    """The use cases of pins. Raises ApiError.

    A change reads accounts and boards from Postgres, without the cache, before it locks the pin.
    Under the lock, each change would hold one of few connections and wait for a second.
    """

    def __init__(
        self,
        pins: PinRepository,
        boards: BoardCache,
        access: AccessRepository,
        removals: RemovalReader,
    ) -> None:
        self._pins = pins
        self._boards = boards
        self._access = access
        self._removals = removals

    async def get(self, principal: Principal, pin_id: UUID) -> Row:
        return transitions.require_pin(principal, await self._find(principal, pin_id))

    async def get_job(self, principal: Principal, job_id: UUID) -> Row:
        """Returns the pin that the job publishes. Both have the same id."""
        return transitions.require_pin(
            principal, await self._find(principal, job_id), resource="Job"
        )

    async def publish(
        self,
        principal: Principal,
        document: object,
        header: str | None = None,
        on_mismatch: OnMismatch = OnMismatch.RETURN,
    ) -> PinOfKey:
        """Publishes a pin, or returns its key's pin. `header` is the request's Idempotency-Key."""
        pin = NewPin.create(principal, parse_pin(document, header))
        checks = await self._boards.check([pin.destination])
        # If the key is taken, answer with its pin, whatever happened to the account since
        if checks.failing and (row := await self._find_of_key(principal, pin)) is not None:
            pin_of_key = PinOfKey(row, is_new=False)
        else:
            transitions.require_destination(checks.failing, pin.destination)
            pin_of_key = await self._pins.publish(pin.mark(checks))
        row = creation.resolve_existing(principal, pin.content.idempotency_key, pin_of_key.row)
        if pin_of_key.is_new:
            return pin_of_key
        comparison = creation.compare_with_pin(pin.content, row, on_mismatch)
        return pin_of_key._replace(comparison=comparison)

    async def edit(self, principal: Principal, pin_id: UUID, document: object) -> Row:
        changes = parse_changes(document, EDITABLE_PIN_FIELDS)
        if "board_id" in changes:
            # The board is checked before the lock, so that the row is not locked during the check.
            # The edit is decided again under the lock
            pin = transitions.require_pin(principal, await self._find(principal, pin_id))
            planned = transitions.edit_pin(principal, changes, pin)
            destination = transitions.build_edited_destination(pin, planned)
            checks = await self._access.check_boards([destination])
            transitions.require_destination(checks, destination)
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            update = transitions.edit_pin(principal, changes, current.row)
            return await current.apply(update)

    async def delete(self, principal: Principal, pin_id: UUID) -> Row:
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            return await current.apply(transitions.delete_pin(principal, current.row))

    async def delete_from_pinterest(self, principal: Principal, pin_id: UUID) -> Row:
        """Deletes a pin, and requests its removal from Pinterest if it is there.

        Also requests the removal of a pin that was deleted before in Pinflow only.
        """
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            decision = transitions.delete_pin_from_pinterest(principal, current.row)
            if isinstance(decision, Update):
                await current.apply(decision)
            pin = current.require_row()
            if transitions.is_on_pinterest(pin):
                await current.request_removal()
        return pin

    async def wait_for_removal(self, pin: Row) -> PinRemoval | None:
        """Waits some seconds until a pin is removed. Returns None if it was never on Pinterest."""
        return (
            await self._removals.wait(pin["pin_id"]) if transitions.is_on_pinterest(pin) else None
        )

    async def delete_all(
        self, principal: Principal, pin_ids: Collection[UUID]
    ) -> dict[UUID, CommandResult]:
        async with self._pins.locked_all(principal.workspace_id, pin_ids) as current:
            delete_pin = partial(transitions.delete_pin, principal)
            return await current.apply(transitions.decide_each(current.rows, delete_pin))

    async def retry(
        self, principal: Principal, pin_id: UUID, document: object, *, may_double: bool = False
    ) -> Row:
        """Publishes a failed pin, to another account or board if `document` has one.

        `may_double` allows a pin that may be on Pinterest already.
        """
        changes = parse_retry(document)
        if "account_id" in changes:
            transitions.require_permitted(principal, changes["account_id"])
        target = await self._check_retries(principal, [pin_id], changes)
        async with self._pins.locked(principal.workspace_id, pin_id) as current:
            update = transitions.retry_pin(principal, target, current.row, may_double=may_double)
            return await current.apply(update)

    async def retry_all(
        self, principal: Principal, pin_ids: Collection[UUID]
    ) -> dict[UUID, CommandResult]:
        target = await self._check_retries(principal, pin_ids, {})
        async with self._pins.locked_all(principal.workspace_id, pin_ids) as current:
            retry_pin = partial(transitions.retry_pin, principal, target)
            return await current.apply(transitions.decide_each(current.rows, retry_pin))

    async def _find_of_key(self, principal: Principal, pin: NewPin) -> Row | None:
        return await self._pins.find_of_key(principal.workspace_id, pin.pin_id)

    async def _find(self, principal: Principal, pin_id: UUID) -> Row | None:
        return await self._pins.find(principal.workspace_id, pin_id)

    async def _check_retries(
        self, principal: Principal, pin_ids: Collection[UUID], changes: Mapping[str, Any]
    ) -> RetryTarget:
        # Checks pins of every state: a due pin may have failed by the time that it is locked
        found = await self._pins.find_all(principal.workspace_id, pin_ids)
        destinations = {transitions.build_retry_destination(pin, changes) for pin in found.values()}
        if not destinations:
            return RetryTarget(changes, {}, frozenset())
        checks = await self._access.check_destinations(destinations)
        return RetryTarget(
            changes,
            {destination: check.board for destination, check in checks.items()},
            {destination.account_id for destination, check in checks.items() if check.is_connected},
        )
