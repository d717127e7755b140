"""All SQL on the schema `status`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import psycopg
from sqlalchemy import func, select, text, update

from services.status.folding import Fold, tally
from services.status.results import merge_results
from services.status.service import Missing
from services.status.tables import jobs
from shared.contract.errors import ValueRejected
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
)
NEWS_COLUMNS = (
    *JOB_COLUMNS,
    ("created_rows", "int4"),
    ("existing_rows", "int4"),
    ("failed_rows", "int4"),
    ("settled", "text"),
    ("first_row", "int4"),
    ("results", "text"),
)
_ONCE = (
    "workspace_id",
    "accepted_at",
    "source_type",
    "source_filename",
    "request_id",
    "warnings",
    "error_code",
    "error_message",
)
_SHOWN = [column.name for column in jobs.c]
_COUNTERS = ("created_rows", "existing_rows", "failed_rows")


def _value(name: str) -> str:
    return f"k.{name}::jsonb" if name == "warnings" else f"k.{name}"


_NEW_TOTAL = "coalesce(j.total_rows, k.total_rows)"
_NEW_ONCE = ", ".join(
    f"{name} = case when j.accepted_at is null then {_value(name)} else j.{name} end"
    for name in _ONCE
)
_NEW_COUNTERS = ", ".join(f"j.{name} + k.{name}" for name in _COUNTERS)
_NEW_PROCESSED = " + ".join(f"j.{name} + k.{name}" for name in _COUNTERS)

# Makes the jobs that are not known yet, then locks them all and tells which of their rows have
# settled: whatever a concurrent fold adds is committed before, or waits. Both in the order of the
# ids, or two folds that overlap deadlock.
MAKE = f"""
    insert into status.jobs (job_id, workspace_id)
    select * from {unnest(JOB_COLUMNS[:2])} order by 1
    on conflict (job_id) do nothing
"""
LOCK = (
    "select job_id, settled from status.jobs where job_id = any(%b::uuid[]) order by job_id for "
    "update"
)

# All that is new, at once: counters move by the rows that had not settled, so repetition moves
# nothing and the order of import and outcomes does not matter. A job that nothing new is known of
# is left alone. Whose job it is, its import says: an outcome that names another workspace must
# neither hide the job from its owner nor show it.
ADD = f"""
    with k as (
        select * from {unnest(NEWS_COLUMNS)} as k({column_names(NEWS_COLUMNS)})
    ), kept as (
        insert into status.results (job_id, first_row, results)
        select job_id, first_row, results from k where first_row is not null
    )
    update status.jobs j set
        total_rows = {_NEW_TOTAL},
        {_NEW_ONCE},
        {", ".join(f"{name} = j.{name} + k.{name}" for name in _COUNTERS)},
        settled = k.settled::bit(501),
        status = status.job_status({_NEW_TOTAL}, {_NEW_COUNTERS}),
        started_at = coalesce(j.started_at, case when {_NEW_PROCESSED} > 0 then now() end),
        completed_at = coalesce(
            j.completed_at, case when {_NEW_PROCESSED} = {_NEW_TOTAL} then now() end
        ),
        updated_at = now()
    from k
    where j.job_id = k.job_id and (
        k.first_row is not null or (j.total_rows is null and k.total_rows is not null)
    )
    returning completed_at is not null
"""

MORE_THAN_ALL = "jobs_counters"
"""The constraint by which no job has more results than rows."""

UPLOAD_COLUMNS = (
    ("job_id", "uuid"),
    ("workspace_id", "uuid"),
    ("format", "text"),
    ("size", "int4"),
    ("content", "bytea"),
)
# Keyed by the workspace that the upload names. One that names a wrong workspace takes nobody's
# place: uploads are read by job and workspace (invariant 10)
KEEP_UPLOADS = f"""
    insert into status.uploads ({column_names(UPLOAD_COLUMNS)})
    select * from {unnest(UPLOAD_COLUMNS)}
    on conflict on constraint uploads_once do nothing
"""

# By the database's clock: replicas' own clocks differ. Two that delete at once find the same rows;
# the second deletes none of them
DELETE_UPLOADS = text("""
    delete from status.uploads where (job_id, workspace_id) in (
        select job_id, workspace_id from status.uploads
        where uploaded_at <= now() - :retention order by uploaded_at limit :limit
    )
""")

# One statement, so one snapshot: counters equal the results in every answer (invariant 5)
_JOB = f"""
    select {", ".join(f"j.{name}" for name in _SHOWN)},
        case when :with_results and j.workspace_id = :workspace_id then (
            select array_agg(r.results) from status.results r where r.job_id = j.job_id
        ) end as results
    from status.jobs j
    where j.job_id = :job_id and j.accepted_at is not null
"""
JOB = text(_JOB)


class JobRepository:
    """Stores and reads jobs and uploads. Raises DatabaseUnavailable if Postgres is away.

    A fold also raises ValueRejected if Postgres does not accept one of its values.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.positions = PositionStore(database, "status")

    async def fold(self, batch: Fold, advance: Advance, *, moves: bool) -> int:
        """Folds a batch in one transaction, in two round trips. Returns how many of its jobs ended.

        With `moves`, the transaction moves the advance's positions. Raises PositionBehind.
        """
        try:
            async with self._database.pipeline() as driver:
                await self.positions.lock(driver, advance, moves=moves)
                if batch.uploads:
                    # In the order of their ids, or two folds that overlap deadlock; not by SQL,
                    # which would sort the contents too
                    uploads = [batch.uploads[key] for key in sorted(batch.uploads)]
                    await driver.execute(KEEP_UPLOADS, to_columns(UPLOAD_COLUMNS, uploads))
                made = [job[:2] for job in batch.jobs.values()]
                await driver.execute(MAKE, to_columns(JOB_COLUMNS[:2], made))
                locked = await driver.execute(LOCK, [Column("uuid", list(batch.jobs))])
                news = [
                    (*batch.jobs[job_id], *tally(settled, batch.results[job_id]))
                    for job_id, settled in await locked.fetchall()
                ]
                added = await driver.execute(ADD, to_columns(NEWS_COLUMNS, news))
                await driver.commit()
                ended = (await added.fetchall()).count((True,))
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name != MORE_THAN_ALL:
                raise
            # Somebody made up a row that its job has not: given up, or it would stop its partition
            # for ever
            raise ValueRejected("more results than the job has rows") from error
        if moves:
            self.positions.mark_stored(advance)
        return ended

    async def find_job(
        self, workspace_id: UUID, job_id: UUID, *, with_results: bool = True
    ) -> Row | Missing:
        """Reads a workspace's job once its import is folded.

        `results` is JSON text, in row order.
        """
        values = {"job_id": job_id, "workspace_id": workspace_id, "with_results": with_results}
        job = await self._database.fetch_first(JOB.bindparams(**values))
        if job is None:
            return Missing.UNKNOWN
        if job["workspace_id"] != workspace_id:
            return Missing.FOREIGN
        return {**job, "results": merge_results(job["results"])}

    async def is_replaying(self) -> bool:
        """Tells whether jobs may be missing because a restored Postgres lost them."""
        return await self.positions.is_replaying()

    async def delete_uploads(self, retention: timedelta, limit: int) -> int:
        """Deletes at most `limit` uploads older than `retention`. Returns their number."""
        async with self._database.transaction() as connection:
            return (
                await connection.execute(DELETE_UPLOADS, {"retention": retention, "limit": limit})
            ).rowcount

    @asynccontextmanager
    async def claim_unannounced(
        self, limit: int, *, extra_timeout_seconds: float = 0
    ) -> AsyncIterator[Sequence[Row]]:
        """Locks jobs that ended and are not announced, and marks them as announced at the end.

        If the body raises, none is marked and all are found again. The body has
        `extra_timeout_seconds`. Jobs that another process holds are passed over.
        """
        ended = (
            select(jobs)
            .where(jobs.c.completed_at.is_not(None), jobs.c.announced_at.is_(None))
            .order_by(jobs.c.job_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._database.transaction(
            extra_timeout_seconds=extra_timeout_seconds
        ) as connection:
            rows = [dict(row) for row in (await connection.execute(ended)).mappings()]
            yield rows
            if rows:
                ids = [row["job_id"] for row in rows]
                await connection.execute(
                    update(jobs).where(jobs.c.job_id.in_(ids)).values(announced_at=func.now())
                )
