"""Imports asked for by topic: the same as over HTTP from the parsed rows on, and once for each request id."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeAlias

import structlog
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.ingest.admission import Admission
from services.ingest.config import IngestSettings
from services.ingest.identity import new_job_id
from services.ingest.imports import Commits, count_accepted, count_refused
from services.ingest.parsing import require_rows, validate
from services.ingest.repository import Claim, RequestKey, Standing
from services.ingest.service import Import, Records, records_of, records_of_rejection
from shared import metrics
from shared.access.directories import WorkspaceDirectory
from shared.bodies import parse_json
from shared.cloudevents import EventType
from shared.errors import ErrorCode, Overloaded, Poison, RequestRefused
from shared.events import ImportRejected, ImportRequested, SourceType
from shared.messaging.consumer import Batch
from shared.messaging.dead_letters import DeadLetter, history_of
from shared.pins import printable
from shared.validation import describe

log = structlog.get_logger()

MAX_SOURCE = 255
ROOM_PATIENCE_SECONDS = 1.0
"""How long a batch waits for room in one go: through some readings of the backlog, after each of which it is the first. Then the consumer
looks whether it is to stop, and begins anew."""


Delivery: TypeAlias = "ConsumerRecord[bytes, bytes]"


class Delivered(NamedTuple):
    """A request by its name. Its rows are parsed again when it is its turn: those of a whole batch could be half a gigabyte."""

    record: Delivery
    key: RequestKey
    body_hash: bytes


class Due(NamedTuple):
    """What a request becomes under the job id and time that the ledger has for it."""

    records: Records
    accepted: bool
    valid_rows: int = 0
    failed_rows: int = 0


class Claims(Protocol):
    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, Standing]: ...
    async def mark_committed(self, keys: Sequence[RequestKey]) -> None: ...


class ImportRequestsHandler:
    """The ledger first, then the transaction, then the ledger again: a crash between any two repeats the same job, never a second.

    A request may be 6 MiB: each is parsed in a thread, one at a time, so that HTTP is answered meanwhile.
    """

    def __init__(
        self, ledger: Claims, workspaces: WorkspaceDirectory, transactions: Commits, admission: Admission, settings: IngestSettings
    ) -> None:
        self._ledger = ledger
        self._workspaces = workspaces
        self._transactions = transactions
        self._admission = admission
        self._commits_at_once = settings.transactional_producers
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

    async def process(self, decoded: list[Delivery], _poison: list[DeadLetter]) -> list[DeadLetter]:
        named, letters = await self._name(decoded)
        wanted = [one for one in named if await self._has_workspace(one, letters)]
        if wanted:
            standing = await self._ledger.claim([_claim(one) for one in wanted])
            await self._commit(_due(wanted, standing, letters), standing)
        return letters

    async def _name(self, records: Batch) -> tuple[list[Delivered], list[DeadLetter]]:
        named, letters = [], []
        for record in records:
            try:
                named.append(await asyncio.to_thread(_named, record))
            except Poison as reason:
                letters.append(DeadLetter(record, reason))
        return named, letters

    async def _has_workspace(self, one: Delivered, letters: list[DeadLetter]) -> bool:
        if await self._workspaces.exists(one.key.workspace_id):
            return True
        reason = Poison(ErrorCode.WORKSPACE_NOT_FOUND, f"there is no workspace {one.key.workspace_id}")
        letters.append(DeadLetter(one.record, reason))
        return False

    async def _commit(self, due: dict[RequestKey, Delivered], standing: dict[RequestKey, Standing]) -> None:
        """All of them, as many at once as there are producers: waiting for one would use up a commit's deadline.

        One that fails stops none of the others, nor makes them be sent again. Raises the first failure once all have ended.
        """
        turns = CommitTurns(self._commits_at_once)
        results = await asyncio.gather(*(self._commit_one(one, standing[key], turns) for key, one in due.items()), return_exceptions=True)
        committed = {key: result for key, result in zip(due, results, strict=True) if isinstance(result, Due)}
        if committed:
            await self._ledger.mark_committed(list(committed))
        for ended in committed.values():
            _count(ended)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _commit_one(self, one: Delivered, standing: Standing, turns: "CommitTurns") -> Due:
        async with turns:
            try:
                await self._admission.wait_for_room(one.key.workspace_id, turns.deadline)
                async with self._thread:
                    due = await asyncio.to_thread(_prepared, one, standing)
                with self._admission.room(one.key.workspace_id, due.valid_rows) as place:
                    place.position = await self._transactions.commit(due.records)
            except Overloaded as overloaded:
                count_refused("topic", overloaded)
                raise
            return due._replace(records={})  # megabytes, of which only the counts are still wanted


class CommitTurns(asyncio.Semaphore):
    """Of one batch's commits; all of them have until `deadline` to find room."""

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self.deadline = asyncio.get_running_loop().time() + ROOM_PATIENCE_SECONDS


def _require_type(record: Delivery) -> None:
    kind = dict(record.headers).get("ce_type", b"")
    if kind != EventType.IMPORT_REQUESTED.encode():
        raise Poison(ErrorCode.INVALID_RECORD, f"ce_type must be {EventType.IMPORT_REQUESTED}, not {printable(repr(kind))}")


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


def _claim(one: Delivered) -> Claim:
    now = datetime.now(UTC)
    return Claim(one.key, one.body_hash, new_job_id(now), now)


def _due(wanted: Sequence[Delivered], standing: dict[RequestKey, Standing], letters: list[DeadLetter]) -> dict[RequestKey, Delivered]:
    """Those not committed yet, once each; a letter for those whose name had another body."""
    due: dict[RequestKey, Delivered] = {}
    for one in wanted:
        known = standing[one.key]
        if known.body_hash != one.body_hash:
            message = f"request_id {one.key.request_id} was used before for another body"
            letters.append(DeadLetter(one.record, Poison(ErrorCode.REQUEST_ID_REUSED, message)))
        elif not known.committed:
            due[one.key] = one
    return due


def _prepared(one: Delivered, standing: Standing) -> Due:
    """An import, or a job that says why not."""
    request = _parsed(one.record)
    try:
        source = _source(request.source)
        rows = validate(require_rows(request.rows))
    except RequestRefused as refusal:
        return Due(records_of_rejection(_rejected(request, standing, refusal)), accepted=False)
    accepted = Import(
        job_id=standing.job_id,
        workspace_id=request.workspace_id,
        accepted_at=standing.accepted_at,
        source_type=SourceType.JSON,
        source_filename=source,
        rows=rows,
        request_id=request.request_id,
        history=history_of(one.record.headers),
    )
    return Due(records_of(accepted), accepted=True, valid_rows=len(rows.valid), failed_rows=len(rows.failed))


def _count(due: Due) -> None:
    if due.accepted:
        count_accepted("topic", failed_rows=due.failed_rows)
    else:
        metrics.IMPORTS.labels("topic", "rejected").inc()


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
