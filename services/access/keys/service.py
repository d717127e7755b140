"""Lists, makes, changes and revokes API keys, and notes when each was used."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from services.access.keys.repository import KeyRepository
from services.access.keys.rules import (
    require_accounts,
    require_changeable,
    require_no_more,
    require_room,
    require_visible,
    require_writing,
)
from shared.access.keys import Scope, new_api_key
from shared.access.model import Principal
from shared.postgres.row import Row

DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)
"""Of a key that is asked for without: it can work, but destroy nothing that it was not trusted with
by name.
"""


class KeyService:
    """Raises ApiError."""

    def __init__(self, keys: KeyRepository, max_keys: int) -> None:
        self._keys = keys
        self._max_keys = max_keys

    async def list_visible(self, principal: Principal) -> list[Row]:
        return await self._keys.list_keys(principal.workspace_id, within=principal.account_ids)

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        scopes: Collection[Scope] | None,
        account_ids: Collection[UUID] | None,
    ) -> tuple[Row, str]:
        """Returns the key as it is listed, and the key itself."""
        granted = scopes or DEFAULT_SCOPES
        new = new_api_key()
        async with self._keys.locked(principal.workspace_id, by=principal.key_id) as locked:
            asking = require_writing(locked.asking)
            require_no_more(asking, granted, account_ids)
            if account_ids is not None:
                require_accounts(account_ids, await locked.known_accounts(account_ids))
            require_room(await locked.count_active_keys(), self._max_keys)
            row = await locked.create(new, name=name, scopes=granted, account_ids=account_ids)
        return row, new.plain

    async def change(self, principal: Principal, key_id: UUID, changes: Mapping[str, Any]) -> Row:
        """Changes a key. `changes` are columns: name, scopes, account_ids."""
        async with self._keys.locked(principal.workspace_id, key_id, by=principal.key_id) as locked:
            asking = require_writing(locked.asking)
            key = require_visible(asking, locked.key)
            require_changeable(asking, key, changes)
            if (account_ids := changes.get("account_ids")) is not None:
                require_accounts(account_ids, await locked.known_accounts(account_ids))
            return await locked.update(key_id, changes)

    async def revoke(self, principal: Principal, key_id: UUID) -> None:
        """Revokes a key. Idempotent: a key that is revoked already keeps its time."""
        async with self._keys.locked(principal.workspace_id, key_id) as locked:
            key = require_visible(principal, locked.key)
            if key["revoked_at"] is None:
                await locked.revoke(key_id)

    async def note_usage(self, key_ids: Collection[UUID]) -> None:
        """Writes down that the keys were used now. Unknown ids change nothing."""
        await self._keys.mark_used(key_ids)
