"""Checks imports without accepting them: dry runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

import msgspec
import orjson

from services.ingest.ids import new_job_id
from services.ingest.model import Import
from services.ingest.parsing.rows import ParsedRows
from services.ingest.records import build_row_events
from services.ingest.service import ImportService
from services.ingest.submissions import ImportSubmission
from shared.contract.events import Notice, RowStatus, SourceType
from shared.contract.not_published import build_existing_not_published, find_not_published
from shared.contract.wire import encode
from shared.http.internal_calls import InternalCalls
from shared.http.row_results import ResultWithNulls, decode_results
from shared.runtime import metrics

CHECK_SECONDS = 10.0
"""Maximum time that the publisher takes for 500 rows. Usually it takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class CheckedImport:
    """The rows of an import, and the results that they would have."""

    workspace_id: UUID
    source_type: SourceType
    source_filename: str | None
    checked_at: datetime
    rows: ParsedRows
    results: Sequence[ResultWithNulls]

    @property
    def total_rows(self) -> int:
        return self.rows.total

    @property
    def created_rows(self) -> int:
        return self._count(RowStatus.CREATED)

    @property
    def existing_rows(self) -> int:
        return self._count(RowStatus.EXISTING)

    @property
    def failed_rows(self) -> int:
        return self._count(RowStatus.FAILED)

    @property
    def publishing_now(self) -> int:
        return self.rows.publishing_now

    @property
    def scheduled_for_later(self) -> int:
        return self.rows.scheduled_for_later

    @property
    def warnings(self) -> list[Notice]:
        """The warnings that the job would have in the end."""
        row_numbers = find_not_published(self.results)
        more = [build_existing_not_published(row_numbers)] if row_numbers else []
        return [*self.rows.warnings, *more]

    def _count(self, status: RowStatus) -> int:
        return sum(result.status is status for result in self.results)


class _ReadRows(NamedTuple):
    rows: ParsedRows
    valid: list[orjson.Fragment]
    """The RowAccepted events of the valid rows."""


class ImportChecker:
    """Reads an import as ImportService does, and asks the publisher what its rows would become.

    Raises ApiError. Writes nothing.
    """

    def __init__(self, imports: ImportService, publisher: InternalCalls) -> None:
        self._imports = imports
        self._publisher = publisher
        for source_type in SourceType:
            metrics.IMPORT_CHECKS.labels(source_type.value)

    async def check(self, submission: ImportSubmission) -> CheckedImport:
        """Returns the rows of the submission with the results that they would have now."""
        now = datetime.now(UTC)

        def build(checked: Import) -> _ReadRows:
            events = [orjson.Fragment(value) for value in build_row_events(checked)]
            return _ReadRows(checked.rows, events)

        async with self._imports.slot(submission.workspace_id):
            read = await self._imports.read(submission, new_job_id(now), now, build)
        # All rows go together, because later rows depend on earlier ones with the same key. The
        # publisher's limit of a body fits the largest import
        settled = await self._settle(read.valid) if read.valid else []
        results = [*decode_results(encode(read.rows.failed)), *settled]
        results.sort(key=attrgetter("row_number"))
        metrics.IMPORT_CHECKS.labels(submission.source_type.value).inc()
        return CheckedImport(
            submission.workspace_id,
            submission.source_type,
            submission.filename,
            now,
            read.rows,
            results,
        )

    async def _settle(self, events: list[orjson.Fragment]) -> list[ResultWithNulls]:
        answer = await self._publisher.post(
            "imports/check", {"rows": events}, timeout_seconds=CHECK_SECONDS
        )
        return msgspec.convert(answer["results"], list[ResultWithNulls])
