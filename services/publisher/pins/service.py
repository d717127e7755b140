"""Single pins: published at once, under the same rules and the same keys as the rows of an import;
edited, deleted, tried again.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from services.publisher.pins.changes import Changes
from services.publisher.pins.commands import Direct, PinCommands, Verdict
from services.publisher.pins.repository import PinQueries
from services.publisher.pins.requests import PIN_FIELDS, given_of, pin_of, retry_of
from services.publisher.pins.transitions import (
    Decide,
    delete_pin,
    destination_of,
    edit_pin,
    require_destination,
    require_permitted,
    retry_pin,
    usable,
)
from shared.access.cache import BoardDirectory
from shared.access.model import Destination, Principal
from shared.postgres.row import Row


class Pins:
    """Raises RequestRefused."""

    def __init__(
        self, queries: PinQueries, commands: PinCommands, boards: BoardDirectory, changes: Changes
    ) -> None:
        self._queries = queries
        self._commands = commands
        self._boards = boards
        self._changes = changes

    async def publish(self, who: Principal, document: object) -> tuple[Row, bool]:
        """Publish one pin. Returns what stands under its key, and whether this call made it."""
        content = pin_of(document)
        require_permitted(who, content.account_id)
        pin = Direct.of(who.workspace_id, content)
        destination = Destination(who.workspace_id, content.account_id, content.board_id)
        failing = await self._boards.failing([destination])
        if (
            failing
            and (stands := await self._queries.any(who.workspace_id, pin.pin_id)) is not None
        ):
            # A key that is taken answers what stands under it, whatever its account has become
            # since
            return usable(who, content.idempotency_key, stands), False
        require_destination(failing, destination)
        row, made = await self._commands.publish_directly(pin)
        return usable(who, content.idempotency_key, row), made

    async def edit(self, who: Principal, pin_id: UUID, document: object) -> Row:
        given = given_of(document, PIN_FIELDS)
        return await self._changes.edit(who.workspace_id, pin_id, partial(edit_pin, who, given))

    async def delete(self, who: Principal, pin_id: UUID) -> Row:
        return await self._changes.one(who.workspace_id, pin_id, partial(delete_pin, who))

    async def delete_all(self, who: Principal, pin_ids: Collection[UUID]) -> dict[UUID, Verdict]:
        return await self._changes.each(who.workspace_id, pin_ids, partial(delete_pin, who))

    async def retry(self, who: Principal, pin_id: UUID, document: object) -> Row:
        """`document` may name another account or board to publish to."""
        instead = retry_of(document)
        if "account_id" in instead:
            require_permitted(who, instead["account_id"])
        return await self._changes.one(
            who.workspace_id, pin_id, await self._retry(who, [pin_id], instead)
        )

    async def retry_all(self, who: Principal, pin_ids: Collection[UUID]) -> dict[UUID, Verdict]:
        return await self._changes.each(
            who.workspace_id, pin_ids, await self._retry(who, pin_ids, {})
        )

    async def _retry(
        self, who: Principal, pin_ids: Collection[UUID], instead: Mapping[str, Any]
    ) -> Decide:
        # Of all, whatever their state: one that is due may have failed by the time that it is
        # locked
        found = await self._changes.found(who.workspace_id, pin_ids)
        checks = await self._changes.check({destination_of(pin, instead) for pin in found})
        return partial(retry_pin, who, instead, checks)
