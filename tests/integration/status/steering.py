"""The status service with stored imports, and with servers in place of ingest and the publisher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import cramjam
import httpx
import orjson

from services.status.folding import CompressedUpload, Foldable, group_by_job
from services.status.repository import JobRepository
from shared.contract.events import (
    FileUploaded,
    ImportAccepted,
    RowResult,
    SourceType,
    UploadFormat,
    UploadParameters,
)
from shared.kafka.positions.advance import Advance
from shared.postgres.database import Database
from tests.support.factories import import_accepted, rows_settled
from tests.support.receivers import ReceivedRequest, Reply

TOKEN = "the-token-of-this-installation"  # pragma: allowlist secret
Answer = Callable[[dict[str, Any]], Any]


@dataclass
class Peer:
    """Another service: it answers its internal routes as a test wants."""

    answers: dict[str, Answer] = field(default_factory=dict)
    """The answer to the document of each path."""
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, request: ReceivedRequest) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _reply(403, {"detail": {"code": "internal_access_denied", "message": "No."}})
        path = request.path.removeprefix("/internal/")
        self.received.append((path, request.document))
        answer = self.answers[path](request.document)
        return answer if isinstance(answer, Reply) else _reply(200, answer)

    def documents(self, path: str) -> list[dict[str, Any]]:
        return [document for received, document in self.received if received == path]


def _reply(status: int, document: object) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, orjson.dumps(document))


def refuse(status: int, code: str, message: str, **details: Any) -> Reply:
    """Builds an error as Pinflow's services answer it."""
    return _reply(status, {"detail": {"code": code, "message": message, **details}})


@dataclass(frozen=True)
class Steering:
    """The service's client, its database, and the servers that it calls."""

    http: httpx.AsyncClient
    database: Database
    publisher: Peer
    ingest: Peer

    async def store(
        self,
        workspace_id: UUID,
        data: bytes | None,
        results: Sequence[RowResult],
        *,
        format_: UploadFormat = UploadFormat.CSV,
        parameters: UploadParameters | None = None,
        **fields: Any,
    ) -> ImportAccepted:
        """Stores an import with its upload and results."""
        source = SourceType.CSV if format_ is UploadFormat.CSV else SourceType.JSON
        job = import_accepted(
            job_id=uuid4(),
            workspace_id=workspace_id,
            source_type=source,
            **{"total_rows": len(results), **fields},
        )
        events: list[Any] = [job, *([rows_settled(job, *results)] if results else [])]
        if data is not None:
            events.append(build_upload(job, data, format_, parameters))
        await self.fold(*events)
        return job

    async def fold(self, *events: Foldable) -> None:
        await JobRepository(self.database).fold(group_by_job(events), Advance(), moves=False)


def build_upload(
    job: ImportAccepted,
    data: bytes,
    format_: UploadFormat = UploadFormat.CSV,
    parameters: UploadParameters | None = None,
) -> CompressedUpload:
    header = FileUploaded(
        job_id=job.job_id,
        workspace_id=job.workspace_id,
        format=format_,
        size=len(data),
        parameters=parameters,
    )
    return CompressedUpload(header, bytes(cramjam.zstd.compress(data)))
