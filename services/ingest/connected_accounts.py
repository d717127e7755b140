"""Knows which accounts are connected to Pinterest, for the warnings of imports."""

import asyncio
import time
from collections.abc import Collection
from typing import Protocol
from uuid import UUID

import structlog

from shared.contract.errors import DatabaseUnavailable
from shared.runtime.clock import Clock
from shared.runtime.ttl_set import TTLSet

log = structlog.get_logger()

LOOKUP_SECONDS = 0.5
"""Maximum time of a lookup. Its import waits in one of few slots, and needs the answer only for a
warning."""
PAUSE_SECONDS = 10.0
"""After a failed lookup, imports get no such warnings for this time."""


class Connections(Protocol):
    """Reads connections. shared.access.repository.AccessRepository implements it."""

    async def find_connected(
        self, workspace_id: UUID, account_ids: Collection[UUID], /
    ) -> set[UUID]:
        """Returns the accounts that were ever connected. Raises DatabaseUnavailable."""


class ConnectedAccounts:
    """Caches the accounts of both kinds, by workspace.

    An import may name any account. It must not learn whether another workspace's is connected, nor
    change what that workspace is told.
    """

    def __init__(self, connections: Connections, clock: Clock = time.monotonic) -> None:
        self._connections = connections
        self._clock = clock
        self._connected: TTLSet[tuple[UUID, UUID]] = TTLSet()
        self._others: TTLSet[tuple[UUID, UUID]] = TTLSet()
        self._paused_until = 0.0

    async def find(self, workspace_id: UUID, account_ids: Collection[UUID]) -> set[UUID]:
        """Returns the accounts that are connected. Without Postgres: those that are known."""
        known = {
            account_id
            for account_id in account_ids
            if (workspace_id, account_id) in self._connected
        }
        unknown = [
            account_id
            for account_id in account_ids
            if account_id not in known and (workspace_id, account_id) not in self._others
        ]
        if not unknown or self._clock() < self._paused_until:
            return known
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await self._connections.find_connected(workspace_id, unknown)
        except (DatabaseUnavailable, TimeoutError) as error:
            self._paused_until = self._clock() + PAUSE_SECONDS
            log.warning("connections_not_read", error=str(error))
            return known
        for account_id in unknown:
            kind = self._connected if account_id in found else self._others
            kind.add((workspace_id, account_id))
        return known | found
