"""Builds submissions: what a client sent, how it is read, and how it is recorded."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from services.ingest.model import Import, RawUpload
from services.ingest.parsing.policy import ImportParameters
from services.ingest.parsing.reading import RawTable
from services.ingest.parsing.rows import ParsedRows, RawRow, require_row_count, require_rows
from services.ingest.reader import AllowList, ReadingScope
from shared.contract.events import SourceType, UploadFormat
from shared.contract.pins import make_printable
from shared.contract.strict_json import parse_json
from shared.contract.time_zones import load_zone
from shared.contract.wire import encode
from shared.spreadsheets.ignored_times import refuse_ignored_times
from shared.spreadsheets.table import read_csv

MAX_FILENAME_LENGTH = 255
"""Characters of a file name that the job keeps."""
MAX_EVENT_LOOP_BYTES = 1024 * 1024
"""Larger JSON imports are parsed in a thread. On the event loop, parsing takes 6 ms for 500 usual
rows (160 kB), 9 ms for this size and 45 ms for 5 MiB. A thread adds 0.1 ms to one import. With
eight imports at once, threads compete for the interpreter and add a fifth to the latency (p50 55 →
67 ms).
"""
DEFAULT_PARAMETERS = ImportParameters()


class ImportSubmission(NamedTuple):
    """An import as a client sent it over HTTP."""

    workspace_id: UUID
    source_type: SourceType
    filename: str | None
    upload_format: UploadFormat
    data: bytes
    """The file or body. It is stored as the import's upload."""
    parse: Callable[[datetime], RawTable]
    """Parses the file or body that is accepted at a time."""
    in_thread: bool
    """True if `parse` would block the event loop for too long."""
    parameters: ImportParameters = DEFAULT_PARAMETERS
    account_ids: AllowList = None
    parent_id: UUID | None = None

    def build_scope(self, accepted_at: datetime) -> ReadingScope:
        """Builds the scope in which the rows are read."""
        return ReadingScope(self.workspace_id, accepted_at, self.parameters, self.account_ids)

    def build_import(
        self, job_id: UUID, accepted_at: datetime, rows: ParsedRows, *, keep_upload: bool
    ) -> Import:
        """Builds the import that these rows become."""
        upload = (
            RawUpload(self.upload_format, self.data, self.parameters.to_event())
            if keep_upload
            else None
        )
        return Import(
            job_id,
            self.workspace_id,
            accepted_at,
            self.source_type,
            self.filename,
            rows,
            upload=upload,
            on_existing=self.parameters.on_existing,
            parent_id=self.parent_id,
        )

    async def compute_hash(self) -> bytes:
        """Returns a hash of what makes two requests with one idempotency key the same request.

        It covers the endpoint, the parameters and the file's or body's bytes. A parameter that has
        its default does not change it, so a new parameter does not either.
        """
        if len(self.data) > MAX_EVENT_LOOP_BYTES:
            return await asyncio.to_thread(self._compute_hash)
        return self._compute_hash()

    def _compute_hash(self) -> bytes:
        about = [self.source_type, self.parent_id, self.parameters.to_event()]
        digest = blake2b(encode(about), digest_size=32)
        digest.update(b"\n")
        digest.update(self.data)
        return digest.digest()


def submit_json(
    workspace_id: UUID,
    body: bytes,
    parameters: ImportParameters = DEFAULT_PARAMETERS,
    account_ids: AllowList = None,
) -> ImportSubmission:
    """Builds the submission of a JSON import's body."""
    return ImportSubmission(
        workspace_id,
        SourceType.JSON,
        None,
        UploadFormat.JSON,
        body,
        lambda _accepted_at: _parse_json(body),
        in_thread=len(body) > MAX_EVENT_LOOP_BYTES,
        parameters=parameters,
        account_ids=account_ids,
    )


def submit_csv(
    workspace_id: UUID,
    data: bytes,
    filename: str | None,
    parameters: ImportParameters = DEFAULT_PARAMETERS,
    account_ids: AllowList = None,
) -> ImportSubmission:
    """Builds the submission of a CSV file."""
    return ImportSubmission(
        workspace_id,
        SourceType.CSV,
        make_printable(filename, MAX_FILENAME_LENGTH) if filename else None,
        UploadFormat.CSV,
        data,
        partial(_parse_csv, data, parameters),
        in_thread=True,  # 5 MiB of blank lines take half a second
        parameters=parameters,
        account_ids=account_ids,
    )


def submit_rows(
    workspace_id: UUID,
    rows: Sequence[RawRow],
    *,
    source_type: SourceType,
    filename: str | None,
    lines: Sequence[int] | None = None,
    parameters: ImportParameters = DEFAULT_PARAMETERS,
    account_ids: AllowList = None,
    parent_id: UUID | None = None,
) -> ImportSubmission:
    """Builds the submission of rows that an earlier import had. They are stored as JSON."""
    data = encode(rows)
    return ImportSubmission(
        workspace_id,
        source_type,
        filename,
        UploadFormat.JSON,
        data,
        lambda _accepted_at: RawTable(rows, lines),
        in_thread=len(data) > MAX_EVENT_LOOP_BYTES,
        parameters=parameters,
        account_ids=account_ids,
        parent_id=parent_id,
    )


def _parse_json(body: bytes) -> RawTable:
    return RawTable(require_rows(parse_json(body)))


def _parse_csv(data: bytes, parameters: ImportParameters, accepted_at: datetime) -> RawTable:
    table = read_csv(
        data,
        encoding=parameters.encoding,
        keep_unknown=parameters.strict,
        optional=() if parameters.account is None else ("account_id",),
    )
    require_row_count(table.row_count, has_header=True)
    zone = None if parameters.timezone is None else load_zone(parameters.timezone)
    refuse_ignored_times(table, accepted_at, zone)
    return RawTable(
        [row.values for row in table.rows], [row.line for row in table.rows], table.warnings
    )
