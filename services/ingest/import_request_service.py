"""Accepts imports that were requested by topic, one job for each request id."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from services.ingest.admission.control import AdmissionControl
from services.ingest.config import IngestSettings
from services.ingest.import_requests import ReceivedRequest, parse_request, require_same_body
from services.ingest.ledger import Claim, LedgerEntry, RequestKey, new_claim
from services.ingest.ledger_codec import RequestDecision, pack, unpack
from services.ingest.parsing.rows import ParsedRows
from services.ingest.reader import ImportReader
from services.ingest.service import ImportLog, count_accepted, count_refused
from shared.access.cache import WorkspaceCache
from shared.contract.errors import ApiError, ErrorCode, Overloaded, Poison
from shared.runtime import metrics

CAPACITY_WAIT_SECONDS = 1.0
"""Seconds that a batch waits for backlog capacity. That is several lag samples, and after each
sample the batch is served before new HTTP imports. When the time is up, the batch fails as
overloaded, and the consumer retries it unless the process is stopping.
"""


class RequestLedger(Protocol):
    """Stores requests by key. services.ingest.repository.PostgresRequestLedger implements it."""

    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, LedgerEntry]:
        """Stores the claims of new keys and returns the entry of every key."""

    async def store_decision(self, key: RequestKey, job_id: UUID, decision: bytes) -> bytes | None:
        """Stores the decision unless there is one.

        Returns the decision that was stored first, or None if the request is committed.
        """

    async def mark_committed(self, keys: Sequence[RequestKey]) -> None:
        """Marks requests whose records are in Kafka and deletes their decisions."""


class ImportRequestService:
    """Accepts each request in four steps: claim, store the decision, append, mark as committed.

    After a crash between two steps the same job is repeated with the same decision. A request may
    have 6 MiB. Requests are parsed in a thread, one at a time, so that HTTP is still answered.
    """

    def __init__(
        self,
        ledger: RequestLedger,
        workspaces: WorkspaceCache,
        import_log: ImportLog,
        admission: AdmissionControl,
        reader: ImportReader,
        settings: IngestSettings,
    ) -> None:
        self._ledger = ledger
        self._workspaces = workspaces
        self._import_log = import_log
        self._admission = admission
        self._reader = reader
        self._imports_at_once = settings.imports_at_once
        self._keep_uploads = settings.upload_retention_days > 0
        self._parser_lock = asyncio.Lock()

    async def accept(self, requests: Sequence[ReceivedRequest]) -> Mapping[int, Poison]:
        """Accepts the requests. Returns the reasons of those that can never be accepted, by index.

        Raises Overloaded, BrokerUnavailable, AcceptanceUnknown or DatabaseUnavailable. The consumer
        then retries the whole batch.
        """
        refused: dict[int, Poison] = {}
        for index, request in enumerate(requests):
            if not await self._workspaces.exists(request.key.workspace_id):
                message = (
                    f"Workspace {request.key.workspace_id} does not exist. Correct workspace_id, "
                    "or create the workspace and replay the request."
                )
                refused[index] = Poison(ErrorCode.WORKSPACE_NOT_FOUND, message)
        claims = [
            new_claim(request.key, request.body_hash)
            for index, request in enumerate(requests)
            if index not in refused
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
        """Appends all pending requests, a few at a time.

        With more at a time, some would wait while their deadline runs. A failed append does not
        stop the others, and these are not sent again. Raises the first failure after all have
        ended.
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
        """Appends one request. Returns None if another replica has committed it."""
        workspace_id = request.key.workspace_id
        async with slots:
            try:
                await self._admission.wait_for_capacity(workspace_id, slots.deadline)
                if (decision := await self._load_or_make_decision(request, entry)) is None:
                    return None
                with self._admission.reserve(workspace_id, decision.batch.row_count) as reservation:
                    reservation.import_end = await self._import_log.append(decision.batch)
            except Overloaded as overloaded:
                count_refused("topic", overloaded)
                raise
            # The records may have megabytes and only the counts are still needed
            return decision.without_records()

    async def _load_or_make_decision(
        self, request: ReceivedRequest, entry: LedgerEntry
    ) -> RequestDecision | None:
        """Returns the stored decision, or decides and stores the decision before anything is sent.

        Returns None if another replica has committed the request.
        """
        if (stored := entry.decision) is None:
            async with self._parser_lock:
                packed = await self._decide(request, entry)
            stored = await self._ledger.store_decision(request.key, entry.job_id, packed)
        return None if stored is None else await asyncio.to_thread(unpack, stored)

    async def _decide(self, request: ReceivedRequest, entry: LedgerEntry) -> bytes:
        """Decides whether a request becomes an import or a failed job. Returns the packed decision.

        Raises DatabaseUnavailable.
        """
        parsed = await asyncio.to_thread(parse_request, request, entry)

        def accept(rows: ParsedRows) -> bytes:
            return pack(parsed.accept(rows, keep_upload=self._keep_uploads))

        try:
            return await self._reader.read(parsed.parse_rows, parsed.scope, accept, in_thread=True)
        except ApiError as refusal:
            return pack(parsed.reject(refusal))


class AppendSlots(asyncio.Semaphore):
    """Limits how many imports of one batch are appended at once.

    All imports of the batch wait for backlog capacity until `deadline`.
    """

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.deadline = asyncio.get_running_loop().time() + CAPACITY_WAIT_SECONDS


def _count(decision: RequestDecision) -> None:
    if decision.accepted:
        count_accepted("topic", failed_rows=decision.failed_rows)
    else:
        metrics.IMPORTS.labels("topic", "rejected").inc()
