"""Accepts imports that were requested by topic, each once for its request id."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from services.ingest.admission.limits import Admission
from services.ingest.config import IngestSettings
from services.ingest.decisions import RequestDecision, pack, unpack
from services.ingest.requests import (
    Claim,
    LedgerEntry,
    ReceivedRequest,
    RequestKey,
    decide,
    new_claim,
    require_same_body,
)
from services.ingest.service import ImportLog, count_accepted, count_refused
from shared.access.cache import WorkspaceCache
from shared.contract.errors import ErrorCode, Overloaded, Poison
from shared.runtime import metrics

CAPACITY_WAIT_SECONDS = 1.0
"""How long a batch waits for capacity in one go: through some readings of the backlog, after each
of which it is the first. Then the consumer looks whether it is to stop, and begins anew.
"""


class RequestLedger(Protocol):
    """Stores requests by key. services.ingest.repository.PostgresRequestLedger implements it."""

    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, LedgerEntry]: ...
    async def store_decision(
        self, key: RequestKey, job_id: UUID, decision: bytes
    ) -> bytes | None: ...
    async def mark_committed(self, keys: Sequence[RequestKey]) -> None: ...


class RequestedImportService:
    """Claims each request in the ledger, stores its decision, appends that, and marks the claim.

    A crash between any two steps repeats the same job with the same decisions, never a second one.
    A request may be 6 MiB: each is parsed in a thread, one at a time, so that HTTP is answered
    meanwhile.
    """

    def __init__(
        self,
        ledger: RequestLedger,
        workspaces: WorkspaceCache,
        import_log: ImportLog,
        admission: Admission,
        settings: IngestSettings,
    ) -> None:
        self._ledger = ledger
        self._workspaces = workspaces
        self._import_log = import_log
        self._admission = admission
        self._imports_at_once = settings.imports_at_once
        self._keep_uploads = settings.upload_retention_days > 0
        self._parser_lock = asyncio.Lock()

    async def accept(self, requests: Sequence[ReceivedRequest]) -> Mapping[int, Poison]:
        """Accepts the requests. Returns those that can never be accepted, by their index.

        Raises Overloaded, BrokerUnavailable, AcceptanceUnknown or DatabaseUnavailable: then the
        batch comes again.
        """
        refused: dict[int, Poison] = {}
        for index, request in enumerate(requests):
            if not await self._workspaces.exists(request.key.workspace_id):
                message = f"there is no workspace {request.key.workspace_id}"
                refused[index] = Poison(ErrorCode.WORKSPACE_NOT_FOUND, message)
        claims = [
            new_claim(request) for index, request in enumerate(requests) if index not in refused
        ]
        if not claims:
            return refused
        entries = await self._ledger.claim(claims)
        pending: dict[RequestKey, ReceivedRequest] = {}
        for index, request in enumerate(requests):
            if index in refused:
                continue
            try:
                require_same_body(request, entries[request.key])
            except Poison as reason:
                refused[index] = reason
                continue
            if not entries[request.key].is_committed:
                pending[request.key] = request
        await self._append_all(pending, entries)
        return refused

    async def _append_all(
        self,
        pending: Mapping[RequestKey, ReceivedRequest],
        entries: Mapping[RequestKey, LedgerEntry],
    ) -> None:
        """Appends all of them, a few at a time: more would wait with their deadline running.

        One that fails stops none of the others, nor makes them be sent again. Raises the first
        failure once all have ended.
        """
        slots = AppendSlots(self._imports_at_once)
        results = await asyncio.gather(
            *(self._append(request, entries[key], slots) for key, request in pending.items()),
            return_exceptions=True,
        )
        appended = {
            key: result
            for key, result in zip(pending, results, strict=True)
            if isinstance(result, RequestDecision)
        }
        if appended:
            await self._ledger.mark_committed(list(appended))
        for decision in appended.values():
            _count(decision)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _append(
        self, request: ReceivedRequest, entry: LedgerEntry, slots: "AppendSlots"
    ) -> RequestDecision | None:
        """Returns what was appended; None if another replica was faster."""
        workspace_id = request.key.workspace_id
        async with slots:
            try:
                await self._admission.wait_for_capacity(workspace_id, slots.deadline)
                if (decision := await self._load_or_make_decision(request, entry)) is None:
                    return None
                with self._admission.reserve(workspace_id, decision.batch.rows) as reservation:
                    reservation.position = await self._import_log.append(decision.batch)
            except Overloaded as overloaded:
                count_refused("topic", overloaded)
                raise
            # Megabytes, of which only the counts are still wanted
            return decision.without_records()

    async def _load_or_make_decision(
        self, request: ReceivedRequest, entry: LedgerEntry
    ) -> RequestDecision | None:
        """Returns the stored decision, or decides now and stores that before anything is sent.

        None if another replica has finished the request.
        """
        if (stored := entry.decision) is None:
            async with self._parser_lock:
                packed = await asyncio.to_thread(self._decide, request, entry)
            stored = await self._ledger.store_decision(request.key, entry.job_id, packed)
        return None if stored is None else await asyncio.to_thread(unpack, stored)

    def _decide(self, request: ReceivedRequest, entry: LedgerEntry) -> bytes:
        return pack(decide(request, entry, keep_upload=self._keep_uploads))


class AppendSlots(asyncio.Semaphore):
    """Limits how many imports of one batch are appended at once.

    All have until `deadline` to find capacity.
    """

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.deadline = asyncio.get_running_loop().time() + CAPACITY_WAIT_SECONDS


def _count(decision: RequestDecision) -> None:
    if decision.accepted:
        count_accepted("topic", failed_rows=decision.failed_rows)
    else:
        metrics.IMPORTS.labels("topic", "rejected").inc()
