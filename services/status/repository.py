"""Holds all SQL of the schema `status`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import func, select, text, update

from services.status.folding import EventsByJob, tally
from services.status.model import Missing
from services.status.results.encoding import count_errors, read_stored
from services.status.tables import jobs
from services.status.uploads.model import StoredUpload
from shared.contract.errors import ValueRejected
from shared.contract.events import UploadFormat, UploadParameters
from shared.contract.wire import encode
from shared.kafka.positions.advance import Advance
from shared.kafka.positions.store import PositionStore
from shared.postgres.arrays import Column, column_names, to_columns, unnest
from shared.postgres.database import Database
from shared.postgres.row import Row

JOB_COLUMNS = (
    ("job_id", "uuid"),
    ("workspace_id", "uuid"),
    ("accepted_at", "timestamptz"),
    ("total_rows", "int4"),
    ("source_type", "text"),
    ("source_filename", "text"),
    ("request_id", "text"),
    ("warnings", "text"),
    ("error_code", "text"),
    ("error_message", "text"),
    ("publishing_now", "int4"),
    ("scheduled_for_later", "int4"),
    ("parent_id", "uuid"),
)
CHANGE_COLUMNS = (
    *JOB_COLUMNS,
    ("created_rows", "int4"),
    ("existing_rows", "int4"),
    ("failed_rows", "int4"),
    ("settled", "text"),
    ("first_row", "int4"),
    ("results", "text"),
    ("not_published", "text"),
)
_IMPORT_COLUMNS = (
    "workspace_id",
    "accepted_at",
    "source_type",
    "source_filename",
    "request_id",
    "warnings",
    "error_code",
    "error_message",
    "publishing_now",
    "scheduled_for_later",
    "parent_id",
)
"""Columns that the first import event of a job sets."""
_ANSWER_COLUMNS = [column.name for column in jobs.c]
_COUNTERS = ("created_rows", "existing_rows", "failed_rows")


def _value(name: str) -> str:
    return f"c.{name}::jsonb" if name == "warnings" else f"c.{name}"


_NEW_TOTAL = "coalesce(j.total_rows, c.total_rows)"
_NEW_IMPORT_VALUES = ", ".join(
    f"{name} = case when j.accepted_at is null then {_value(name)} else j.{name} end"
    for name in _IMPORT_COLUMNS
)
_NEW_COUNTERS = ", ".join(f"j.{name} + c.{name}" for name in _COUNTERS)
_NEW_PROCESSED = " + ".join(f"j.{name} + c.{name}" for name in _COUNTERS)

# These two statements insert new jobs, then lock all jobs of the batch and read which of their rows
# have settled. A concurrent fold of the same job has committed before the lock, or waits for it.
# Both statements use the order of the ids, or two overlapping folds would deadlock.
INSERT_JOBS = f"""
    insert into status.jobs (job_id, workspace_id)
    select * from {unnest(JOB_COLUMNS[:2])} order by 1
    on conflict (job_id) do nothing
"""
LOCK_JOBS = (
    "select job_id, settled from status.jobs where job_id = any(%b::uuid[]) order by job_id for "
    "update"
)

# Stores all changes of a batch. Counters increase only by rows that settle now. So a repetition
# changes nothing, and the order of import and outcomes does not matter. A job without changes is
# not updated. The import event decides which workspace owns the job: an outcome that names another
# workspace must neither hide the job from its owner nor reveal it to others.
UPDATE_JOBS = f"""
    with c as (
        select * from {unnest(CHANGE_COLUMNS)} as c({column_names(CHANGE_COLUMNS)})
    ), new_results as (
        insert into status.results (job_id, first_row, results)
        select job_id, first_row, results from c where first_row is not null
    )
    update status.jobs j set
        total_rows = {_NEW_TOTAL},
        {_NEW_IMPORT_VALUES},
        {", ".join(f"{name} = j.{name} + c.{name}" for name in _COUNTERS)},
        settled = c.settled::bit(501),
        not_published = case when c.not_published is null then j.not_published
            else coalesce(j.not_published, B'0'::bit(501)) | c.not_published::bit(501) end,
        status = status.job_status({_NEW_TOTAL}, {_NEW_COUNTERS}),
        started_at = coalesce(j.started_at, case when {_NEW_PROCESSED} > 0 then now() end),
        completed_at = coalesce(
            j.completed_at, case when {_NEW_PROCESSED} = {_NEW_TOTAL} then now() end
        ),
        updated_at = now()
    from c
    where j.job_id = c.job_id and (
        c.first_row is not null or (j.total_rows is null and c.total_rows is not null)
    )
    returning completed_at is not null
"""

COUNTERS_CONSTRAINT = "jobs_counters"
"""The constraint that no job has more results than rows."""

UPLOAD_COLUMNS = (
    ("job_id", "uuid"),
    ("workspace_id", "uuid"),
    ("format", "text"),
    ("size", "int4"),
    ("content", "bytea"),
    ("parameters", "text"),
)
# The key includes the workspace that the upload names. So an upload with a wrong workspace cannot
# replace the right one: uploads are read by job and workspace (invariant 10)
INSERT_UPLOADS = f"""
    insert into status.uploads ({column_names(UPLOAD_COLUMNS)})
    select job_id, workspace_id, format, size, content, parameters::json
    from {unnest(UPLOAD_COLUMNS)} as u({column_names(UPLOAD_COLUMNS)})
    on conflict on constraint uploads_once do nothing
"""

# Uses the database's clock, because the replicas' clocks differ. Two replicas that delete at the
# same time find the same rows; the second one deletes nothing
DELETE_UPLOADS = text("""
    delete from status.uploads where (job_id, workspace_id) in (
        select job_id, workspace_id from status.uploads
        where uploaded_at <= now() - :retention order by uploaded_at limit :limit
    )
""")

# One statement has one snapshot, so counters equal the results in every answer (invariant 5)
_SELECT_JOB = f"""
    select {", ".join(f"j.{name}" for name in _ANSWER_COLUMNS)},
        j.not_published::text as not_published,
        case when :with_results and j.workspace_id = :workspace_id then (
            select array_agg(r.results) from status.results r where r.job_id = j.job_id
        ) end as results
    from status.jobs j
    where j.job_id = :job_id and j.accepted_at is not null
"""
SELECT_JOB = text(_SELECT_JOB)

SELECT_UPLOAD = text("""
    select format, content, parameters from status.uploads
    where job_id = :job_id and workspace_id = :workspace_id
""")
# Each text has the results of one fold, in row order
SELECT_FOLDS = text("""
    select r.results, r.folded_at from status.results r where r.job_id = :job_id
""")


class JobRepository:
    """Stores and reads jobs and uploads. Raises DatabaseUnavailable if Postgres is down.

    A fold also raises ValueRejected if Postgres does not accept one of its values.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.positions = PositionStore(database, "status")

    async def fold(self, events: EventsByJob, advance: Advance, *, moves: bool) -> int:
        """Folds events in one transaction of two round trips. Returns how many jobs ended.

        With `moves`, the transaction also moves the advance's positions. Raises PositionBehind.
        """
        try:
            async with self._database.pipeline() as driver:
                await self.positions.lock(driver, advance, moves=moves)
                if events.uploads:
                    # In the order of the ids, or two overlapping folds would deadlock. Sorted here,
                    # because SQL would sort the contents too
                    uploads = [events.uploads[key] for key in sorted(events.uploads)]
                    await driver.execute(INSERT_UPLOADS, to_columns(UPLOAD_COLUMNS, uploads))
                job_ids = [job[:2] for job in events.jobs.values()]
                await driver.execute(INSERT_JOBS, to_columns(JOB_COLUMNS[:2], job_ids))
                locked = await driver.execute(LOCK_JOBS, [Column("uuid", list(events.jobs))])
                changes = [
                    (*events.jobs[job_id], *tally(settled, events.results[job_id]))
                    for job_id, settled in await locked.fetchall()
                ]
                updated = await driver.execute(UPDATE_JOBS, to_columns(CHANGE_COLUMNS, changes))
                await driver.commit()
                ended = (await updated.fetchall()).count((True,))
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name != COUNTERS_CONSTRAINT:
                raise
            # Another producer wrote a result of a row that the job does not have. The record must
            # become a dead letter, or it would block its partition forever
            raise ValueRejected("The job would have more results than rows.") from error
        if moves:
            self.positions.mark_stored(advance)
        return ended

    async def find_job(
        self, workspace_id: UUID, job_id: UUID, *, with_results: bool = True
    ) -> Row | Missing:
        """Reads a job of a workspace, if its import has been folded.

        `results` is JSON in row order, and `error_counts` counts the failed ones among them.
        """
        values = {"job_id": job_id, "workspace_id": workspace_id, "with_results": with_results}
        job = await self._database.fetch_first(SELECT_JOB.bindparams(**values))
        if job is None:
            return Missing.UNKNOWN
        if job["workspace_id"] != workspace_id:
            return Missing.FOREIGN
        results = read_stored(job["results"])
        return {**job, "results": encode(results), "error_counts": count_errors(results)}

    async def find_upload(self, workspace_id: UUID, job_id: UUID) -> StoredUpload | None:
        """Reads the upload of a workspace's job."""
        values = {"job_id": job_id, "workspace_id": workspace_id}
        row = await self._database.fetch_first(SELECT_UPLOAD.bindparams(**values))
        if row is None:
            return None
        parameters = row["parameters"]
        return StoredUpload(
            UploadFormat(row["format"]),
            row["content"],
            None if parameters is None else msgspec.convert(parameters, UploadParameters),
        )

    async def find_settled_at(self, job_id: UUID, row_number: int) -> datetime | None:
        """Reads when the result of a row was folded.

        Returns None if the row has no result, or one of a version that did not store the time.
        """
        for row in await self._database.fetch_all(SELECT_FOLDS.bindparams(job_id=job_id)):
            results = read_stored([row["results"]])
            if any(result.row_number == row_number for result in results):
                folded_at: datetime | None = row["folded_at"]
                return folded_at
        return None

    async def is_replaying(self) -> bool:
        """Returns whether jobs may be missing because Postgres was restored from a backup."""
        return await self.positions.is_replaying()

    async def delete_uploads(self, retention: timedelta, limit: int) -> int:
        """Deletes at most `limit` uploads older than `retention`. Returns their number."""
        async with self._database.transaction() as connection:
            return (
                await connection.execute(DELETE_UPLOADS, {"retention": retention, "limit": limit})
            ).rowcount

    @asynccontextmanager
    async def lock_unannounced(
        self, limit: int, *, extra_timeout_seconds: float = 0
    ) -> AsyncIterator[Sequence[Row]]:
        """Locks completed jobs that are not announced, and marks them as announced after the block.

        If the block raises, no job is marked, and the next call finds them again. The transaction
        may take `extra_timeout_seconds` longer than usual. Jobs that another process has locked are
        skipped.
        """
        completed = (
            select(jobs)
            .where(jobs.c.completed_at.is_not(None), jobs.c.announced_at.is_(None))
            .order_by(jobs.c.job_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._database.transaction(
            extra_timeout_seconds=extra_timeout_seconds
        ) as connection:
            rows = [dict(row) for row in (await connection.execute(completed)).mappings()]
            yield rows
            if rows:
                ids = [row["job_id"] for row in rows]
                await connection.execute(
                    update(jobs).where(jobs.c.job_id.in_(ids)).values(announced_at=func.now())
                )
