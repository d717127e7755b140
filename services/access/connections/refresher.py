"""Refreshes the tokens of connections, without losing any (docs/decisions/0042).

1. A short transaction takes the lease: one process at a time refreshes a connection.
2. The request to Pinterest, while no transaction is open.
3. One transaction stores both new tokens, before anything uses them.

Whatever goes wrong between 1 and 3, the old tokens stay, and the next refresh tries them again.
"""

import asyncio
import itertools
import time
from collections.abc import Coroutine, Hashable, Mapping
from typing import Any, Protocol
from uuid import UUID

import structlog

from services.access.connections.model import NotConnected
from services.access.connections.repository import ConnectionRepository
from services.access.connections.rules import (
    REVOKED_MESSAGE,
    UNAVAILABLE_MESSAGE,
    FailedRefresh,
    build_refresh_form,
    compute_refresh_delay,
    is_verdict,
    judge_refused_refresh,
    merge_tokens,
    plan_retry,
)
from services.access.connections.stored import Lease, RefreshClaim, SealedTokens
from services.access.connections.vault import TokenKeyMissing, Tokens, Vault
from shared.access.connection_health import GIVEN_UP, HealthCode
from shared.contract.errors import Unavailable
from shared.pinterest.failures import AnswerLost, Cause, NotSent, PinterestFailure, Refused
from shared.pinterest.model import TokenGrant
from shared.runtime.backoff import backoff
from shared.runtime.metrics import PINTEREST_TOKEN_REFRESHES
from shared.runtime.tasks import retrieve_exception

log = structlog.get_logger()

OPERATION = "oauth/token"
LEASE_MARGIN_SECONDS = 10.0
"""A lease outlasts the request by this: it covers the transaction that stores the tokens."""
MAX_SENDING_DELAY_SECONDS = 5.0
"""A process that was frozen for longer after it took the lease sends nothing: another process may
have the lease by the time of the answer."""
POLL_SECONDS = 0.1
STORE_SECONDS = 900.0
"""Maximum time for which new tokens are kept in memory while Postgres is down. Pinterest may have
ended the old ones."""
CLOSE_SECONDS = 60.0
"""Maximum time for which a stop waits for refreshes in flight."""
KEY_MISSING_SECONDS = 300.0


class TokenEndpoint(Protocol):
    """Pinterest's token endpoint: PinterestClient, or a model of it in tests."""

    async def request_tokens(self, form: Mapping[str, str]) -> TokenGrant:
        """Raises NotSent, AnswerLost or Refused."""


class TokenRefresher:
    """Refreshes connections: at once for calls, and ahead of time for the sweep."""

    def __init__(
        self,
        repository: ConnectionRepository,
        endpoint: TokenEndpoint,
        vault: Vault,
        *,
        timeout_seconds: float,
        ahead_seconds: float,
    ) -> None:
        """Takes the timeout of a request, and how long before its expiry a token is refreshed."""
        self._repository = repository
        self._endpoint = endpoint
        self._vault = vault
        self._ahead_seconds = ahead_seconds
        self.lease_seconds = timeout_seconds + LEASE_MARGIN_SECONDS
        self.max_wait_seconds = 2 * self.lease_seconds
        self._running: dict[Hashable, asyncio.Task[int]] = {}

    async def refresh(self, account_id: UUID, seen_version: int) -> int:
        """Refreshes the tokens if their version is `seen_version`. Returns the version then.

        Raises NotConnected, TokenKeyMissing or a PinterestFailure: Refused (Cause.TOKEN) only if
        Pinterest says that the tokens are invalid.
        """
        key = (account_id, seen_version)
        return await self._share(key, self._refresh(account_id, seen_version))

    async def complete(self, claim: RefreshClaim) -> int:
        """Refreshes the tokens of a claim. Returns their version. Raises like `refresh`."""
        # Not the key of `refresh`: such a task may be waiting for the lease of this claim
        key = (claim.account_id, claim.version, claim.fence)
        return await self._share(key, self._complete(claim))

    def seal(self, account_id: UUID, tokens: Tokens, lifetime_seconds: float) -> SealedTokens:
        """Encrypts tokens for the database, and plans their refresh."""
        return SealedTokens(
            self._vault.key_id,
            self._vault.seal(account_id, tokens),
            compute_refresh_delay(lifetime_seconds, self._ahead_seconds),
        )

    async def close(self) -> None:
        """Waits for the refreshes in flight: a stop must not lose their answers."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=CLOSE_SECONDS)

    async def _share(self, key: Hashable, work: Coroutine[Any, Any, int]) -> int:
        """Runs a refresh as a task, which all callers of this process share.

        A caller that is canceled, or has waited too long, leaves it running, or the answer's tokens
        would be lost.
        """
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(work)
            task.add_done_callback(retrieve_exception)
            task.add_done_callback(lambda _ended: self._running.pop(key))
        else:
            work.close()
        await asyncio.wait({task}, timeout=self.max_wait_seconds)
        if not task.done():
            raise NotSent(OPERATION, "The new tokens are not stored yet.")
        return task.result()

    async def _refresh(self, account_id: UUID, seen_version: int) -> int:
        deadline = time.monotonic() + self.max_wait_seconds
        observed_fence: int | None = None
        while time.monotonic() < deadline:
            lease = await self._repository.read_lease(account_id)
            if lease is None:
                raise NotConnected(account_id)
            if lease.version != seen_version:
                return lease.version
            if lease.is_taken:
                observed_fence = lease.fence
                await asyncio.sleep(POLL_SECONDS)
                continue
            if lease.is_ended and lease.fence == observed_fence:
                raise _build_shared_failure(lease)
            claim = await self._repository.claim(account_id, seen_version, self.lease_seconds)
            if claim is not None:
                return await self._complete(claim)
        raise NotSent(OPERATION, "Other processes are refreshing the tokens.")

    async def _complete(self, claim: RefreshClaim) -> int:
        try:
            tokens = self._vault.open(claim.account_id, claim.secret)
        except TokenKeyMissing:
            log.exception("tokens_unreadable", account_id=str(claim.account_id))
            await self._postpone(claim, KEY_MISSING_SECONDS, "key_missing")
            raise
        scopes = ",".join(claim.scopes)
        form = build_refresh_form(claim.grant_type, tokens, scopes)
        if form is None:
            return await self._settle_refusal(claim, _build_refusal())
        if time.monotonic() - claim.claimed_at > MAX_SENDING_DELAY_SECONDS:
            await self._record_failure(claim)
            raise NotSent(OPERATION, "The refresh was late, so it was not sent.")
        try:
            with structlog.contextvars.bound_contextvars(account_id=str(claim.account_id)):
                grant = await self._endpoint.request_tokens(form)
        except Refused as refusal:
            if is_verdict(refusal):
                return await self._settle_refusal(claim, refusal)
            await self._record_failure(claim, refusal.retry_after_seconds)
            raise NotSent(
                OPERATION, "Pinterest does not refresh tokens at the moment."
            ) from refusal
        except (NotSent, AnswerLost):
            await self._record_failure(claim)
            raise
        return await self._store(claim, merge_tokens(tokens, grant), grant)

    async def _store(self, claim: RefreshClaim, tokens: Tokens, grant: TokenGrant) -> int:
        """Stores new tokens. Tries again whatever fails: they exist only here."""
        sealed = self.seal(claim.account_id, tokens, grant.expires_in)
        deadline = time.monotonic() + STORE_SECONDS
        for attempt in itertools.count():
            try:
                async with self._repository.lock(claim) as locked:
                    version = None if locked is None else await locked.store(sealed, grant)
                break
            except Exception as error:
                if time.monotonic() > deadline:
                    raise
                log.warning(
                    "tokens_not_stored_yet",
                    account_id=str(claim.account_id),
                    error=str(error),
                    exc_info=not isinstance(error, Unavailable),
                )
                await asyncio.sleep(backoff(attempt, first=POLL_SECONDS, limit=5))
        if version is None:
            return await self._read_version(claim.account_id)
        PINTEREST_TOKEN_REFRESHES.labels("refreshed").inc()
        log.info("tokens_refreshed", account_id=str(claim.account_id), token_version=version)
        return version

    async def _read_version(self, account_id: UUID) -> int:
        lease = await self._repository.read_lease(account_id)
        if lease is None:
            raise NotConnected(account_id)
        return lease.version

    async def _settle_refusal(self, claim: RefreshClaim, refusal: Refused) -> int:
        """Returns the version if other tokens were stored meanwhile. Raises Refused otherwise."""
        async with self._repository.lock(claim) as locked:
            if locked is not None and locked.version == claim.version:
                failed = judge_refused_refresh(locked.state)
                await locked.postpone(failed.retry_seconds, failed)
        if locked is None or locked.version != claim.version:
            return await self._read_version(claim.account_id)
        PINTEREST_TOKEN_REFRESHES.labels("refused").inc()
        log.warning(
            "refresh_refused",
            account_id=str(claim.account_id),
            health_code=failed.health_code,
            status=refusal.status,
            code=refusal.code,
            pinterest_request_id=refusal.request_id,
        )
        raise Refused(
            OPERATION,
            refusal.message,
            status=refusal.status,
            code=refusal.code,
            cause=Cause.TOKEN,
            request_id=refusal.request_id,
        )

    async def _record_failure(
        self, claim: RefreshClaim, retry_after_seconds: int | None = None
    ) -> None:
        retry_seconds = plan_retry(claim.failures, retry_after_seconds)
        failed = FailedRefresh(HealthCode.REFRESH_FAILED, UNAVAILABLE_MESSAGE, retry_seconds)
        await self._postpone(claim, retry_seconds, "failed", failed)

    async def _postpone(
        self,
        claim: RefreshClaim,
        retry_seconds: float,
        outcome: str,
        failed: FailedRefresh | None = None,
    ) -> None:
        """Ends the claim. If Postgres is down, the claim ends with its lease."""
        PINTEREST_TOKEN_REFRESHES.labels(outcome).inc()
        try:
            async with self._repository.lock(claim) as locked:
                if locked is not None:
                    await locked.postpone(retry_seconds, failed)
        except Unavailable as error:
            log.warning("refresh_not_recorded", account_id=str(claim.account_id), error=str(error))


def _build_shared_failure(lease: Lease) -> PinterestFailure:
    """Builds the failure of a refresh that another process made, for those who waited for it."""
    if lease.health_code in GIVEN_UP:
        return _build_refusal(lease.health_message)
    return NotSent(OPERATION, "The tokens could not be refreshed.")


def _build_refusal(message: str | None = None) -> Refused:
    return Refused(OPERATION, message or REVOKED_MESSAGE, status=401, code=None, cause=Cause.TOKEN)
