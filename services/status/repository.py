"""All SQL on the schema `status`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import psycopg
from sqlalchemy import func, select, text, update

from services.status.folding import Fold
from services.status.models import fold_progress, jobs
from shared.columns import Table, columns, names, unnest
from shared.database import Database, Refused, Row

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
RESULT_COLUMNS = (
    ("job_id", "uuid"),
    ("row_number", "int4"),
    ("status", "int2"),
    ("payload_matches", "bool"),
    ("pin_id", "uuid"),
    ("schedule_id", "uuid"),
    ("idempotency_key", "text"),
    ("error_code", "text"),
    ("error_message", "text"),
    ("errors", "text"),
)
_ONCE = ("workspace_id", "accepted_at", "source_type", "source_filename", "request_id", "warnings", "error_code", "error_message")
_COUNTERS = ("created_rows", "existing_rows", "failed_rows")


def _selected(table: Table, alias: str) -> str:
    as_json = {"warnings", "errors"}
    return ", ".join(f"{alias}.{name}::jsonb" if name in as_json else f"{alias}.{name}" for name, _ in table)


_NEW_TOTAL = "coalesce(j.total_rows, excluded.total_rows)"
_NEW_COUNTERS = ", ".join(f"j.{name} + excluded.{name}" for name in _COUNTERS)
_NEW_PROCESSED = " + ".join(f"j.{name} + excluded.{name}" for name in _COUNTERS)
_COUNTS = "coalesce(c.created, 0), coalesce(c.existing, 0), coalesce(c.failed, 0)"
_PROCESSED = "coalesce(c.created + c.existing + c.failed, 0)"

# The whole fold, at once: counters move by what was really inserted, so repetition moves nothing and the order of import and outcomes
# does not matter. Results and jobs are sorted, or two folds that overlap deadlock. A job that nothing new is known of is left alone.
# Whose job it is, its import says: an outcome that names another workspace must neither hide the job from its owner nor show it.
FOLD = f"""
    with inserted as (
        insert into status.row_results ({names(RESULT_COLUMNS)})
        select {_selected(RESULT_COLUMNS, "r")} from {unnest(RESULT_COLUMNS)} as r({names(RESULT_COLUMNS)})
        order by r.job_id, r.row_number
        on conflict (job_id, row_number) do nothing
        returning job_id, status
    ), counted as (
        select job_id,
            count(*) filter (where status = 1)::int as created,
            count(*) filter (where status = 2)::int as existing,
            count(*) filter (where status = 3)::int as failed
        from inserted group by job_id
    )
    insert into status.jobs as j ({names(JOB_COLUMNS)}, {", ".join(_COUNTERS)}, status, started_at, completed_at)
    select {_selected(JOB_COLUMNS, "k")}, {_COUNTS},
        status.job_status(k.total_rows, {_COUNTS}),
        case when {_PROCESSED} > 0 then now() end,
        case when {_PROCESSED} = k.total_rows then now() end
    from {unnest(JOB_COLUMNS)} as k({names(JOB_COLUMNS)})
    left join counted c using (job_id)
    order by k.job_id
    on conflict (job_id) do update set
        total_rows = {_NEW_TOTAL},
        {", ".join(f"{name} = case when j.accepted_at is null then excluded.{name} else j.{name} end" for name in _ONCE)},
        {", ".join(f"{name} = j.{name} + excluded.{name}" for name in _COUNTERS)},
        status = status.job_status({_NEW_TOTAL}, {_NEW_COUNTERS}),
        started_at = coalesce(j.started_at, excluded.started_at),
        completed_at = coalesce(j.completed_at, case when {_NEW_PROCESSED} = {_NEW_TOTAL} then now() end),
        updated_at = now()
    where {" or ".join(f"excluded.{name} > 0" for name in _COUNTERS)}
        or (j.total_rows is null and excluded.total_rows is not null)
    returning completed_at is not null
"""

MORE_THAN_ALL = "jobs_counters"
"""The constraint by which no job has more results than rows."""

PROGRESS_COLUMNS = (("partition", "int4"), ("folded_until", "timestamptz"))
# Never back: a replica that lost the partition may be late with what it saw
NOTE_FOLDED = f"""
    insert into status.fold_progress as p ({names(PROGRESS_COLUMNS)})
    select * from {unnest(PROGRESS_COLUMNS)} order by 1
    on conflict (partition) do update set folded_until = greatest(p.folded_until, excluded.folded_until)
"""

# One statement, so one snapshot: counters equal the results in every answer (invariant 5). Postgres writes the rows' JSON:
# ten times cheaper than making objects of them to take apart again.
_JOB = """
    select j.*, case when :with_results then coalesce((
        select json_agg(json_build_object(
            'row_number', r.row_number,
            'status', (array['created', 'existing', 'failed'])[r.status],
            'pin_id', r.pin_id,
            'schedule_id', r.schedule_id,
            'idempotency_key', r.idempotency_key,
            'error_code', r.error_code,
            'error_message', r.error_message,
            'errors', coalesce(r.errors, '[]'),
            'payload_matches', r.payload_matches
        ) order by r.row_number)::text
        from status.row_results r where r.job_id = j.job_id
    ), '[]') end as results
    from status.jobs j
    where j.job_id = :job_id and j.workspace_id = :workspace_id and j.accepted_at is not null
"""
JOB = text(_JOB)


class JobStore:
    """Raises DatabaseUnavailable when Postgres is away, Refused when it would not take a value of a fold."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fold(self, batch: Fold) -> int:
        """One transaction, one statement. Returns how many of the jobs touched have ended."""
        values = columns(RESULT_COLUMNS, batch.results) + columns(JOB_COLUMNS, batch.jobs.values())
        try:
            async with self._database.pipeline() as driver:
                cursor = await driver.execute(FOLD, values)
                await driver.commit()
                return sum(ended for (ended,) in await cursor.fetchall())
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name != MORE_THAN_ALL:
                raise
            # Somebody made up a row that its job has not: given up, or it would stop its partition for ever
            raise Refused("more results than the job has rows") from error

    async def job(self, workspace_id: UUID, job_id: UUID, *, with_results: bool = True) -> Row | None:
        """A job whose import is known; `results` is JSON text, in row order."""
        values = {"job_id": job_id, "workspace_id": workspace_id, "with_results": with_results}
        return await self._database.first(JOB.bindparams(**values))

    async def now(self) -> datetime:
        """The time by the database's clock."""
        row = await self._database.first(select(func.now().label("now")))
        if row is None:
            raise AssertionError("a clock has no time")
        return cast("datetime", row["now"])

    async def note_folded(self, moments: Mapping[int, datetime]) -> datetime:
        """All that stood in a partition of `imports` at its moment is folded. Returns the time by the database's clock."""
        async with self._database.pipeline() as driver:
            if moments:
                await driver.execute(NOTE_FOLDED, columns(PROGRESS_COLUMNS, moments.items()))
            ((now,),) = await (await driver.execute("select now()")).fetchall()
        return cast("datetime", now)

    async def folded_until(self, partition: int) -> datetime | None:
        row = await self._database.first(select(fold_progress.c.folded_until).where(fold_progress.c.partition == partition))
        return None if row is None else row["folded_until"]

    async def announce(self, limit: int, deliver: Callable[[Sequence[Row]], Awaitable[None]], *, patience_seconds: float = 0) -> int:
        """Hand jobs that ended and were not announced to `deliver`; marked when it returns, found again when it raises.

        They are locked while it works, for which it has `patience_seconds`.
        """
        ended = (
            select(jobs)
            .where(jobs.c.completed_at.is_not(None), jobs.c.announced_at.is_(None))
            .order_by(jobs.c.job_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._database.transaction(patience_seconds=patience_seconds) as connection:
            rows = [dict(row) for row in (await connection.execute(ended)).mappings()]
            if rows:
                await deliver(rows)
                ids = [row["job_id"] for row in rows]
                await connection.execute(update(jobs).where(jobs.c.job_id.in_(ids)).values(announced_at=func.now()))
        return len(rows)
