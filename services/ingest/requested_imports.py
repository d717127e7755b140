"""Accepts imports that were requested by topic, each once for its request id."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from services.ingest.admission.limits import Admission
from services.ingest.config import IngestSettings
from services.ingest.decisions import Decision, pack, unpack
from services.ingest.requests import (
    Claim,
    ReceivedRequest,
    RequestKey,
    Standing,
    claim_for,
    decide,
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
    """Stores requests by their keys; the real one is services.ingest.repository.Ledger."""

    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, Standing]: ...
    async def decide(self, key: RequestKey, job_id: UUID, decision: bytes) -> bytes | None: ...
    async def mark_committed(self, keys: Sequence[RequestKey]) -> None: ...


class RequestedImports:
    """Claims each request in the ledger, stores its decision, appends that, and marks the claim.

    A crash between any two steps repeats the same job with the same decisions, never a second one.
    A request may be 6 MiB: each is parsed in a thread, one at a time, so that HTTP is answered
    meanwhile.
    """

    def __init__(
        self,
        ledger: RequestLedger,
        workspaces: WorkspaceCache,
        acceptance: ImportLog,
        admission: Admission,
        settings: IngestSettings,
    ) -> None:
        self._ledger = ledger
        self._workspaces = workspaces
        self._acceptance = acceptance
        self._admission = admission
        self._imports_at_once = settings.imports_at_once
        self._keep_uploads = settings.upload_retention_days > 0
        self._thread = asyncio.Lock()

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
        claims = [claim_for(one) for index, one in enumerate(requests) if index not in refused]
        if not claims:
            return refused
        standing = await self._ledger.claim(claims)
        pending: dict[RequestKey, ReceivedRequest] = {}
        for index, request in enumerate(requests):
            if index in refused:
                continue
            try:
                require_same_body(request, standing[request.key])
            except Poison as reason:
                refused[index] = reason
                continue
            if not standing[request.key].committed:
                pending[request.key] = request
        await self._append_all(pending, standing)
        return refused

    async def _append_all(
        self,
        pending: Mapping[RequestKey, ReceivedRequest],
        standing: Mapping[RequestKey, Standing],
    ) -> None:
        """Appends all of them, a few at a time: more would wait with their deadline running.

        One that fails stops none of the others, nor makes them be sent again. Raises the first
        failure once all have ended.
        """
        slots = AppendSlots(self._imports_at_once)
        results = await asyncio.gather(
            *(self._append(request, standing[key], slots) for key, request in pending.items()),
            return_exceptions=True,
        )
        appended = {
            key: result
            for key, result in zip(pending, results, strict=True)
            if isinstance(result, Decision)
        }
        if appended:
            await self._ledger.mark_committed(list(appended))
        for decision in appended.values():
            _count(decision)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _append(
        self, request: ReceivedRequest, standing: Standing, slots: "AppendSlots"
    ) -> Decision | None:
        """Returns what was appended; None if another replica was faster."""
        workspace_id = request.key.workspace_id
        async with slots:
            try:
                await self._admission.wait_for_room(workspace_id, slots.deadline)
                if (decision := await self._decision(request, standing)) is None:
                    return None
                with self._admission.room(workspace_id, decision.batch.rows) as place:
                    place.position = await self._acceptance.append(decision.batch)
            except Overloaded as overloaded:
                count_refused("topic", overloaded)
                raise
            # Megabytes, of which only the counts are still wanted
            return decision.without_records()

    async def _decision(self, request: ReceivedRequest, standing: Standing) -> Decision | None:
        """Returns the stored decision, or decides now and stores that before anything is sent.

        None if another replica has finished the request.
        """
        if (stored := standing.decision) is None:
            async with self._thread:
                packed = await asyncio.to_thread(self._decide, request, standing)
            stored = await self._ledger.decide(request.key, standing.job_id, packed)
        return None if stored is None else await asyncio.to_thread(unpack, stored)

    def _decide(self, request: ReceivedRequest, standing: Standing) -> bytes:
        return pack(decide(request, standing, keep_upload=self._keep_uploads))


class AppendSlots(asyncio.Semaphore):
    """Limits how many imports of one batch are appended at once.

    All have until `deadline` to find capacity.
    """

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.deadline = asyncio.get_running_loop().time() + CAPACITY_WAIT_SECONDS


def _count(decision: Decision) -> None:
    if decision.accepted:
        count_accepted("topic", failed_rows=decision.failed_rows)
    else:
        metrics.IMPORTS.labels("topic", "rejected").inc()
