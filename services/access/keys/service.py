"""Lists, creates, changes and revokes API keys, and records when they were used."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from services.access.keys.repository import KeyRepository
from services.access.keys.rules import (
    require_accounts,
    require_below_limit,
    require_changeable,
    require_no_more_rights,
    require_visible,
    require_writing,
)
from shared.access.keys import Scope, new_api_key
from shared.access.model import Principal
from shared.postgres.row import Row

DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)
"""Scopes of a key that is created without `scopes`. It can't delete or revoke anything."""


class KeyService:
    """The use cases of API keys. Raises ApiError."""

    def __init__(self, keys: KeyRepository, max_keys: int) -> None:
        self._keys = keys
        self._max_keys = max_keys

    async def list_visible(self, principal: Principal) -> list[Row]:
        return await self._keys.list_keys(principal.workspace_id, account_ids=principal.account_ids)

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        scopes: Collection[Scope] | None,
        account_ids: Collection[UUID] | None,
    ) -> tuple[Row, str]:
        """Creates a key. Returns its row and the key itself."""
        granted = scopes or DEFAULT_SCOPES
        new = new_api_key()
        async with self._keys.lock(principal.workspace_id, caller_id=principal.key_id) as locked:
            caller = require_writing(locked.caller)
            require_no_more_rights(caller, granted, account_ids)
            if account_ids is not None:
                require_accounts(account_ids, await locked.find_accounts(account_ids))
            require_below_limit(await locked.count_active_keys(), self._max_keys)
            row = await locked.create(new, name=name, scopes=granted, account_ids=account_ids)
        return row, new.plain

    async def change(self, principal: Principal, key_id: UUID, changes: Mapping[str, Any]) -> Row:
        """Changes a key. `changes` are columns: name, scopes, account_ids."""
        async with self._keys.lock(
            principal.workspace_id, key_id, caller_id=principal.key_id
        ) as locked:
            caller = require_writing(locked.caller)
            key = require_visible(caller, locked.key)
            require_changeable(caller, key, changes)
            if (account_ids := changes.get("account_ids")) is not None:
                require_accounts(account_ids, await locked.find_accounts(account_ids))
            return await locked.update(key_id, changes)

    async def revoke(self, principal: Principal, key_id: UUID) -> None:
        """Revokes a key. Idempotent: a revoked key keeps the time of its revocation."""
        async with self._keys.lock(principal.workspace_id, key_id) as locked:
            key = require_visible(principal, locked.key)
            if key["revoked_at"] is None:
                await locked.revoke(key_id)

    async def record_usage(self, key_ids: Collection[UUID]) -> None:
        """Records that the keys were used now. Unknown ids are ignored."""
        await self._keys.mark_used(key_ids)
