"""Accepts imports over HTTP that have an idempotency key, one job for each key.

An attempt goes through five steps: claim the key, read the rows, store the decision, append the
import, complete the entry. The ledger makes sure that only one attempt at a time goes through them
(docs/decisions/0040-idempotency-key-of-imports.md).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

import structlog

from services.ingest.ledger import Channel, Claim, LeasedEntry, LedgerEntry, RequestKey, new_claim
from services.ingest.ledger_codec import RequestDecision, pack, unpack
from services.ingest.model import AcceptedImport
from services.ingest.records import PreparedImport, prepare_import
from services.ingest.service import (
    ImportService,
    ImportStart,
    build_acceptance_unknown,
    wait_in_slot,
)
from services.ingest.submissions import ImportSubmission
from shared.contract.errors import (
    AcceptanceUnknown,
    ApiError,
    DatabaseUnavailable,
    ErrorCode,
    Unavailable,
)
from shared.contract.events import ImportAccepted, decode_import
from shared.contract.pins import make_printable
from shared.runtime import metrics

log = structlog.get_logger()

LEASE = timedelta(seconds=15)
"""Time that an attempt has from its claim to its decision, and from there to the acknowledgement.

An import takes at most about 10 s, and usually milliseconds. After a crash, requests with the key
are answered with 409 until the lease ends.
"""
RETRY_AFTER_SECONDS = 2
CLEAN_INTERVAL_SECONDS = 60.0
MAX_DELETED_REQUESTS = 500


class LeaseLedger(Protocol):
    """Stores requests by key. services.ingest.repository.PostgresRequestLedger implements it.

    All methods raise DatabaseUnavailable.
    """

    async def begin(self, claim: Claim, lease: timedelta) -> LeasedEntry | None:
        """Begins an attempt. Returns None if the entry is deleted at this moment."""

    async def keep_decision(
        self, key: RequestKey, lease_end: datetime, decision: bytes, lease: timedelta
    ) -> datetime | None:
        """Stores the decision. Returns the new lease, or None if another attempt has it."""

    async def release(self, key: RequestKey, lease_end: datetime) -> None:
        """Ends the lease of an attempt that may have appended the import."""

    async def forget(self, key: RequestKey, lease_end: datetime) -> None:
        """Deletes the claim of an attempt after which Kafka certainly does not have the import."""

    async def complete(self, key: RequestKey, job_id: UUID, answer: bytes) -> None:
        """Marks a request whose import is in Kafka, and stores its answer."""

    async def delete_old(self, retention: timedelta, limit: int) -> int:
        """Deletes at most `limit` entries. Returns their number."""


@dataclass(slots=True)
class _Lease:
    """The right of one attempt to append the import of a key."""

    key: RequestKey
    job_id: UUID
    lease_end: datetime
    """The ledger recognizes the attempt by it."""
    is_first_try: bool
    """False if an earlier attempt may have appended the import."""


class KeyedImportService:
    """Accepts submissions with a key.

    Raises what ImportService raises, DatabaseUnavailable, and ApiError: 422 if the key was used
    with other content, 409 while another attempt has the lease.
    """

    def __init__(self, imports: ImportService, ledger: LeaseLedger) -> None:
        self._imports = imports
        self._ledger = ledger
        for channel in (Channel.HTTP, Channel.RETRY):
            metrics.IMPORTS_REPLAYED.labels(channel.value)

    async def accept(self, submission: ImportSubmission, key: RequestKey) -> AcceptedImport:
        """Accepts the submission, or returns the import that an earlier request has made."""
        claim = new_claim(key, await submission.compute_hash())
        leased = await self._ledger.begin(claim, LEASE)
        if leased is None:
            raise _in_progress()
        entry = leased.entry
        if entry.body_hash != claim.body_hash:
            raise _key_reused(key)
        if entry.answer is not None:
            metrics.IMPORTS_REPLAYED.labels(key.channel.value).inc()
            return AcceptedImport(_read_event(entry.answer), is_replay=True)
        if leased.lease is None:
            raise _in_progress()
        lease = _Lease(key, entry.job_id, leased.lease, is_first_try=entry.decision is None)
        prepared = await self._append(submission, entry, lease)
        await self._complete(key, prepared)
        return AcceptedImport(prepared.event, is_replay=not lease.is_first_try)

    async def _append(
        self, submission: ImportSubmission, entry: LedgerEntry, lease: _Lease
    ) -> PreparedImport:
        """Appends the import by the stored decision, or by a new one that is stored first."""
        async with (
            self._free_on_failure(lease),
            self._imports.slot(submission.workspace_id) as start,
        ):
            if entry.decision is not None:
                prepared = await asyncio.to_thread(_unpack, entry.decision)
            else:
                prepared = await self._imports.read(
                    submission, entry.job_id, entry.accepted_at, prepare_import
                )
                await self._keep_decision(prepared, lease, start)
            # The deadline begins now: the wait for Postgres does not count
            now = asyncio.get_running_loop().time()
            await self._imports.append(
                prepared, start._replace(started_at=now), is_first_try=lease.is_first_try
            )
        return prepared

    async def _keep_decision(
        self, prepared: PreparedImport, lease: _Lease, start: ImportStart
    ) -> None:
        decision = RequestDecision(prepared.batch, accepted=True, failed_rows=prepared.failed_rows)
        packed = await asyncio.to_thread(pack, decision)
        lease_end = await wait_in_slot(
            self._ledger.keep_decision(lease.key, lease.lease_end, packed, LEASE), start.slot
        )
        if lease_end is None:
            raise _in_progress()
        lease.lease_end = lease_end

    @asynccontextmanager
    async def _free_on_failure(self, lease: _Lease) -> AsyncIterator[None]:
        """Lets the next request continue at once if this attempt fails.

        The claim is forgotten if Kafka certainly does not have the import, so that a refused
        request can be corrected and sent again with its key.
        """
        try:
            yield
        except AcceptanceUnknown as error:
            await _update_ledger(self._ledger.release(lease.key, lease.lease_end))
            advice = (
                "send the request again with the same Idempotency-Key. It can't be accepted twice."
            )
            raise build_acceptance_unknown(lease.job_id, advice) from error
        except (ApiError, Unavailable):
            free = self._ledger.forget if lease.is_first_try else self._ledger.release
            await _update_ledger(free(lease.key, lease.lease_end))
            raise
        except Exception:  # a bug
            await _update_ledger(self._ledger.release(lease.key, lease.lease_end))
            raise

    async def _complete(self, key: RequestKey, prepared: PreparedImport) -> None:
        """Completes the entry. If Postgres is down, the import is accepted nevertheless.

        Then the next request appends the same records again, and they change nothing.
        """
        answer = prepared.batch.records[0].value
        await _update_ledger(self._ledger.complete(key, prepared.event.job_id, answer))


class RequestCleaner:
    """Deletes old requests in batches, each in its own transaction. Every replica can run one."""

    def __init__(self, ledger: LeaseLedger, retention: timedelta) -> None:
        self._ledger = ledger
        self._retention = retention

    async def delete_old_requests(self) -> int:
        """Deletes one batch and returns its size. Raises DatabaseUnavailable."""
        return await self._ledger.delete_old(self._retention, MAX_DELETED_REQUESTS)


async def _update_ledger(change: Awaitable[None]) -> None:
    """Waits for a change of the ledger. If Postgres is down, the lease ends by itself."""
    try:
        await change
    except DatabaseUnavailable as error:
        log.warning("ledger_not_updated", error=str(error))


def _unpack(packed: bytes) -> PreparedImport:
    batch = unpack(packed).batch
    return PreparedImport(_read_event(batch.records[0].value), batch)


def _read_event(value: bytes) -> ImportAccepted:
    event = decode_import(value)
    if not isinstance(event, ImportAccepted):
        raise TypeError("The decision on a request over HTTP is always an accepted import")
    return event


def _key_reused(key: RequestKey) -> ApiError:
    message = (
        f"The Idempotency-Key {make_printable(key.request_id)} was used before with another file, "
        "body or parameter. Send this import with a new key."
    )
    return ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)


def _in_progress() -> ApiError:
    message = (
        "A request with this Idempotency-Key is still being processed. "
        f"Try again in {RETRY_AFTER_SECONDS} s."
    )
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ApiError(ErrorCode.REQUEST_IN_PROGRESS, message, HTTPStatus.CONFLICT, headers=headers)
