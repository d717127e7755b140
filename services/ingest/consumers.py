"""Imports asked for by topic: the same as over HTTP from the parsed rows on, and once for each request id."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol

import structlog
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.ingest.identity import new_job_id
from services.ingest.imports import Commits, count_accepted
from services.ingest.parsing import require_rows, validate
from services.ingest.repository import Claim, RequestKey, Standing
from services.ingest.service import Import, TopicRecord, records_of, rejection_record
from shared import metrics
from shared.access.directories import WorkspaceDirectory
from shared.bodies import parse_json
from shared.cloudevents import EventType
from shared.errors import ErrorCode, Poison, RequestRefused
from shared.events import ImportRejected, ImportRequested, SourceType
from shared.messaging.consumer import Batch
from shared.messaging.dead_letters import DeadLetter
from shared.pins import printable

log = structlog.get_logger()

MAX_SOURCE = 255


class Delivered(NamedTuple):
    record: "ConsumerRecord[bytes, bytes]"
    request: ImportRequested
    body_hash: bytes

    @property
    def key(self) -> RequestKey:
        return RequestKey(self.request.workspace_id, self.request.request_id)


class Claims(Protocol):
    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, Standing]: ...
    async def mark_committed(self, keys: Sequence[RequestKey]) -> None: ...


class ImportRequestsHandler:
    """The ledger first, then the transaction, then the ledger again: a crash between any two repeats the same job, never a second."""

    def __init__(self, ledger: Claims, workspaces: WorkspaceDirectory, transactions: Commits) -> None:
        self._ledger = ledger
        self._workspaces = workspaces
        self._transactions = transactions

    def decode(self, records: Batch) -> tuple[list[Delivered], list[DeadLetter]]:
        delivered, poison = [], []
        for record in records:
            try:
                delivered.append(_decode(record))
            except Poison as reason:
                poison.append(DeadLetter(record, reason))
        return delivered, poison

    async def process(self, decoded: list[Delivered], _poison: list[DeadLetter]) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        wanted = [one for one in decoded if await self._has_workspace(one, letters)]
        if not wanted:
            return letters
        standing = await self._ledger.claim([_claim(one) for one in wanted])
        due: dict[RequestKey, Delivered] = {}
        for one in wanted:
            known = standing[one.key]
            if known.body_hash != one.body_hash:
                message = f"request_id {one.request.request_id} was used before for another body"
                letters.append(DeadLetter(one.record, Poison(ErrorCode.REQUEST_ID_REUSED, message)))
            elif not known.committed:
                due[one.key] = one
        await asyncio.gather(*(self._transactions.commit(_records(one, standing[key])) for key, one in due.items()))
        if due:
            await self._ledger.mark_committed(list(due))
        return letters

    async def _has_workspace(self, one: Delivered, letters: list[DeadLetter]) -> bool:
        if await self._workspaces.exists(one.request.workspace_id):
            return True
        reason = Poison(ErrorCode.WORKSPACE_NOT_FOUND, f"there is no workspace {one.request.workspace_id}")
        letters.append(DeadLetter(one.record, reason))
        return False


def _decode(record: "ConsumerRecord[bytes, bytes]") -> Delivered:
    """Raises Poison when the request can't even be named."""
    kind = dict(record.headers).get("ce_type", b"")
    if kind != EventType.IMPORT_REQUESTED.encode():
        raise Poison(ErrorCode.INVALID_RECORD, f"ce_type must be {EventType.IMPORT_REQUESTED}, not {printable(repr(kind))}")
    body = record.value or b""
    try:
        request = ImportRequested.model_validate(parse_json(body))
    except (RequestRefused, ValidationError) as error:
        raise Poison(ErrorCode.INVALID_RECORD, str(error)) from None
    if "\0" in request.request_id:
        raise Poison(ErrorCode.INVALID_RECORD, "request_id: must not contain the character NUL")
    return Delivered(record, request, blake2b(body, digest_size=32).digest())


def _claim(one: Delivered) -> Claim:
    now = datetime.now(UTC)
    return Claim(one.key, one.body_hash, new_job_id(now), now)


def _records(one: Delivered, standing: Standing) -> list[TopicRecord]:
    """What the request becomes under the job id and time that the ledger has for it: an import, or a job that says why not."""
    request = one.request
    try:
        source = _source(request.source)
        rows = validate(require_rows(request.rows))
    except RequestRefused as refusal:
        metrics.IMPORTS.labels("topic", "rejected").inc()
        return [rejection_record(_rejected(request, standing, refusal))]
    accepted = Import(
        job_id=standing.job_id,
        workspace_id=request.workspace_id,
        accepted_at=standing.accepted_at,
        source_type=SourceType.JSON,
        source_filename=source,
        rows=rows,
        request_id=request.request_id,
    )
    count_accepted(accepted)
    return records_of(accepted)


def _source(source: object) -> str | None:
    if source is not None and not (isinstance(source, str) and len(source) <= MAX_SOURCE):
        raise RequestRefused(ErrorCode.INVALID_PAYLOAD, f"source must be text of at most {MAX_SOURCE} characters.")
    return printable(source, MAX_SOURCE) if source else None


def _rejected(request: ImportRequested, standing: Standing, refusal: RequestRefused) -> ImportRejected:
    return ImportRejected(
        job_id=standing.job_id,
        workspace_id=request.workspace_id,
        source_filename=printable(request.source, MAX_SOURCE) if isinstance(request.source, str) else None,
        accepted_at=standing.accepted_at,
        request_id=request.request_id,
        error_code=refusal.code,
        error_message=refusal.message,
    )
