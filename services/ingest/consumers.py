"""Imports asked for by topic: the same as over HTTP from the parsed rows on, and once for each
request id.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

import structlog
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.ingest.admission.limits import Admission
from services.ingest.config import IngestSettings
from services.ingest.decisions import Decision, pack, unpack
from services.ingest.ids import new_job_id
from services.ingest.parsing.rows import require_rows, validate
from services.ingest.records import Import, Upload, batch_of, batch_of_rejection
from services.ingest.repository import Claim, RequestKey, Standing
from services.ingest.service import ImportLog, count_accepted, count_refused
from shared.access.cache import WorkspaceDirectory
from shared.contract.cloudevents import EventType
from shared.contract.errors import ErrorCode, Overloaded, Poison, RequestRefused
from shared.contract.events import ImportRejected, ImportRequested, SourceType, UploadFormat
from shared.contract.pins import printable
from shared.contract.validation import describe
from shared.http.bodies import parse_json
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter, history_of
from shared.kafka.positions.advance import Advance
from shared.runtime import metrics

log = structlog.get_logger()

MAX_SOURCE = 255
ROOM_PATIENCE_SECONDS = 1.0
"""How long a batch waits for room in one go: through some readings of the backlog, after each of
which it is the first. Then the consumer looks whether it is to stop, and begins anew.
"""


Delivery: TypeAlias = "ConsumerRecord[bytes, bytes]"


class Delivered(NamedTuple):
    """A request by its name.

    Its rows are parsed when it is its turn: those of a whole batch could be half a gigabyte.
    """

    record: Delivery
    key: RequestKey
    body_hash: bytes


class Claims(Protocol):
    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, Standing]: ...
    async def decide(self, key: RequestKey, job_id: UUID, decision: bytes) -> bytes | None: ...
    async def mark_committed(self, keys: Sequence[RequestKey]) -> None: ...


class ImportRequestsHandler:
    """Claims each request in the ledger, stores what it becomes, appends that, and marks the claim.

    A crash between any two steps repeats the same job with the same decisions, never a second one.
    A request may be 6 MiB: each is parsed in a thread, one at a time, so that HTTP is answered
    meanwhile.
    """

    def __init__(
        self,
        ledger: Claims,
        workspaces: WorkspaceDirectory,
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

    def decode(self, records: Batch) -> tuple[list[Delivery], list[DeadLetter]]:
        """Looks at the headers only: it can't wait, and the bodies of a batch would take a second."""
        delivered, poison = [], []
        for record in records:
            try:
                _require_type(record)
                delivered.append(record)
            except Poison as reason:
                poison.append(DeadLetter(record, reason))
        return delivered, poison

    async def process(
        self, decoded: list[Delivery], _poison: list[DeadLetter], _advance: Advance
    ) -> list[DeadLetter]:
        named, letters = await self._name(decoded)
        wanted = [delivered for delivered in named if await self._has_workspace(delivered, letters)]
        if wanted:
            standing = await self._ledger.claim([_claim(delivered) for delivered in wanted])
            await self._append_all(_due(wanted, standing, letters), standing)
        return letters

    async def _name(self, records: Batch) -> tuple[list[Delivered], list[DeadLetter]]:
        named, letters = [], []
        for record in records:
            try:
                named.append(await asyncio.to_thread(_named, record))
            except Poison as reason:
                letters.append(DeadLetter(record, reason))
        return named, letters

    async def _has_workspace(self, delivered: Delivered, letters: list[DeadLetter]) -> bool:
        if await self._workspaces.exists(delivered.key.workspace_id):
            return True
        reason = Poison(
            ErrorCode.WORKSPACE_NOT_FOUND, f"there is no workspace {delivered.key.workspace_id}"
        )
        letters.append(DeadLetter(delivered.record, reason))
        return False

    async def _append_all(
        self, due: dict[RequestKey, Delivered], standing: dict[RequestKey, Standing]
    ) -> None:
        """Appends all of them, a few at a time: more would wait with their deadline running.

        One that fails stops none of the others, nor makes them be sent again. Raises the first
        failure once all have ended.
        """
        turns = AppendTurns(self._imports_at_once)
        results = await asyncio.gather(
            *(self._append(delivered, standing[key], turns) for key, delivered in due.items()),
            return_exceptions=True,
        )
        ended = {
            key: result
            for key, result in zip(due, results, strict=True)
            if isinstance(result, Decision)
        }
        if ended:
            await self._ledger.mark_committed(list(ended))
        for decision in ended.values():
            _count(decision)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _append(
        self, delivered: Delivered, standing: Standing, turns: "AppendTurns"
    ) -> Decision | None:
        """Returns what was appended; None if another replica was faster."""
        async with turns:
            try:
                await self._admission.wait_for_room(delivered.key.workspace_id, turns.deadline)
                if (decision := await self._decision(delivered, standing)) is None:
                    return None
                with self._admission.room(delivered.key.workspace_id, decision.batch.rows) as place:
                    place.position = await self._acceptance.append(decision.batch)
            except Overloaded as overloaded:
                count_refused("topic", overloaded)
                raise
            # megabytes, of which only the counts are still wanted
            return decision.without_records()

    async def _decision(self, delivered: Delivered, standing: Standing) -> Decision | None:
        """Returns the stored decision, or decides now and stores that before anything is sent.

        None if another replica has finished the request.
        """
        if (stored := standing.decision) is None:
            async with self._thread:
                packed = await asyncio.to_thread(
                    _packed, delivered, standing, keep_upload=self._keep_uploads
                )
            stored = await self._ledger.decide(delivered.key, standing.job_id, packed)
        return None if stored is None else await asyncio.to_thread(unpack, stored)


class AppendTurns(asyncio.Semaphore):
    """Limits how many imports of one batch are appended at once.

    All have until `deadline` to find room.
    """

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.deadline = asyncio.get_running_loop().time() + ROOM_PATIENCE_SECONDS


def _require_type(record: Delivery) -> None:
    kind = dict(record.headers).get("ce_type", b"")
    if kind != EventType.IMPORT_REQUESTED.encode():
        raise Poison(
            ErrorCode.INVALID_RECORD,
            f"ce_type must be {EventType.IMPORT_REQUESTED}, not {printable(repr(kind))}",
        )


def _named(record: Delivery) -> Delivered:
    """Raises Poison when the request can't even be named."""
    request = _parsed(record)
    if "\0" in request.request_id:
        raise Poison(ErrorCode.INVALID_RECORD, "request_id: must not contain the character NUL")
    key = RequestKey(request.workspace_id, request.request_id)
    return Delivered(record, key, blake2b(record.value or b"", digest_size=32).digest())


def _parsed(record: Delivery) -> ImportRequested:
    try:
        return ImportRequested.model_validate(parse_json(record.value or b""))
    except RequestRefused as refusal:
        raise Poison(ErrorCode.INVALID_RECORD, refusal.message) from None
    except ValidationError as error:
        raise Poison(ErrorCode.INVALID_RECORD, describe(error)) from None


def _claim(delivered: Delivered) -> Claim:
    now = datetime.now(UTC)
    return Claim(delivered.key, delivered.body_hash, new_job_id(now), now)


def _due(
    wanted: Sequence[Delivered], standing: dict[RequestKey, Standing], letters: list[DeadLetter]
) -> dict[RequestKey, Delivered]:
    """Those not committed yet, once each; a letter for those whose name had another body."""
    due: dict[RequestKey, Delivered] = {}
    for delivered in wanted:
        known = standing[delivered.key]
        if known.body_hash != delivered.body_hash:
            message = f"request_id {delivered.key.request_id} was used before for another body"
            letters.append(
                DeadLetter(delivered.record, Poison(ErrorCode.REQUEST_ID_REUSED, message))
            )
        elif not known.committed:
            due[delivered.key] = delivered
    return due


def _decided(delivered: Delivered, standing: Standing, *, keep_upload: bool) -> Decision:
    """Decides what a request becomes: an import, or a failed job that says why not."""
    request = _parsed(delivered.record)
    try:
        source = _source(request.source)
        rows = validate(require_rows(request.rows))
    except RequestRefused as refusal:
        return Decision(batch_of_rejection(_rejected(request, standing, refusal)), accepted=False)
    accepted = Import(
        job_id=standing.job_id,
        workspace_id=request.workspace_id,
        accepted_at=standing.accepted_at,
        source_type=SourceType.JSON,
        source_filename=source,
        rows=rows,
        request_id=request.request_id,
        history=history_of(delivered.record.headers),
        upload=Upload(UploadFormat.REQUEST, delivered.record.value or b"") if keep_upload else None,
    )
    return Decision(batch_of(accepted), accepted=True, failed_rows=len(rows.failed))


def _packed(delivered: Delivered, standing: Standing, *, keep_upload: bool) -> bytes:
    return pack(_decided(delivered, standing, keep_upload=keep_upload))


def _count(decision: Decision) -> None:
    if decision.accepted:
        count_accepted("topic", failed_rows=decision.failed_rows)
    else:
        metrics.IMPORTS.labels("topic", "rejected").inc()


def _source(source: object) -> str | None:
    if source is not None and not (isinstance(source, str) and len(source) <= MAX_SOURCE):
        raise RequestRefused(
            ErrorCode.INVALID_PAYLOAD, f"source must be text of at most {MAX_SOURCE} characters."
        )
    return printable(source, MAX_SOURCE) if source else None


def _rejected(
    request: ImportRequested, standing: Standing, refusal: RequestRefused
) -> ImportRejected:
    return ImportRejected(
        job_id=standing.job_id,
        workspace_id=request.workspace_id,
        source_filename=printable(request.source, MAX_SOURCE)
        if isinstance(request.source, str)
        else None,
        accepted_at=standing.accepted_at,
        request_id=request.request_id,
        error_code=refusal.code,
        error_message=refusal.message,
    )
