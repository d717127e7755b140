"""Refreshes tokens ahead of time, re-encrypts them after a change of keys, and tidies up."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from services.access.connections.link import PinterestLink
from services.access.connections.model import NotConnected
from services.access.connections.repository import ConnectionRepository
from services.access.connections.stored import RefreshClaim
from services.access.connections.vault import TokenKeyMissing
from shared.pinterest.failures import PinterestFailure
from shared.runtime.metrics import (
    PINTEREST_RECONNECT_REQUIRED,
    PINTEREST_TOKENS_EXPIRING,
    PINTEREST_TOKENS_UNREADABLE,
)
from shared.runtime.periodic import PeriodicTask

log = structlog.get_logger()

INTERVAL_SECONDS = 30.0
MAX_REFRESHES = 10
"""Maximum refreshes at once. Each holds no database connection while Pinterest answers."""
MAX_ROWS = 100
KEPT_ATTEMPTS = timedelta(days=1)
"""The time for which an attempt to connect is kept after it has expired."""


class ConnectionAttempts(Protocol):
    """Stores attempts to connect an account. Implemented by AttemptRepository of oauth."""

    async def delete_old(self, kept: timedelta, limit: int) -> int:
        """Deletes attempts that expired so long ago. Returns their number."""


class ConnectionSweep:
    """The periodic work on connections. Replicas share it."""

    def __init__(
        self, repository: ConnectionRepository, attempts: ConnectionAttempts, link: PinterestLink
    ) -> None:
        self._repository = repository
        self._attempts = attempts
        self._refresher = link.refresher
        self._vault = link.vault

    def periodic_task(self) -> PeriodicTask:
        return PeriodicTask("pinterest tokens", self.run_once, interval_seconds=INTERVAL_SECONDS)

    async def run_once(self) -> int:
        """Does a part of the work. Returns 0 if there is none."""
        resealed = await self.reseal()
        claims = await self._repository.claim_due(MAX_REFRESHES, self._refresher.lease_seconds)
        await self._refresh(claims)
        deleted = await self._attempts.delete_old(KEPT_ATTEMPTS, MAX_ROWS)
        await self.update_gauges()
        return resealed + len(claims) + deleted

    async def reseal(self) -> int:
        """Encrypts tokens with the first key that another key encrypted. Returns their number."""
        vault, count = self._vault, 0
        async with self._repository.lock_sealed_by_others(
            vault.key_id, vault.key_ids, MAX_ROWS
        ) as locked:
            for account_id, secret in locked.secrets.items():
                try:
                    tokens = vault.open(account_id, secret)
                except TokenKeyMissing:  # damaged: the next refresh fails as well
                    log.exception("tokens_unreadable", account_id=str(account_id))
                    continue
                await locked.replace(account_id, vault.key_id, vault.seal(account_id, tokens))
                count += 1
        if count:
            log.info("tokens_encrypted_again", count=count, key_id=vault.key_id)
        return count

    async def update_gauges(self) -> None:
        """Counts the connections that need a person."""
        counts = await self._repository.count(self._vault.key_ids)
        PINTEREST_TOKENS_EXPIRING.set(counts.expiring)
        PINTEREST_RECONNECT_REQUIRED.set(counts.reconnect_required)
        PINTEREST_TOKENS_UNREADABLE.set(counts.unreadable)

    async def _refresh(self, claims: Sequence[RefreshClaim]) -> None:
        """Refreshes connections at once. A failure is recorded, and concerns only its own."""
        ended = await asyncio.gather(
            *(self._refresher.complete(claim) for claim in claims), return_exceptions=True
        )
        for failure in ended:
            if isinstance(failure, BaseException) and not isinstance(
                failure, PinterestFailure | TokenKeyMissing | NotConnected
            ):
                raise failure
