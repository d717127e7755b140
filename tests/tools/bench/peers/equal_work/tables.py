"""Tables of the equal-work peers, and the statements that settle an import in them.

Connections find the tables by their search path. Accounts and boards are those of Pinflow's access
service, in the same database.
"""

from services.publisher.existing_pins import CONTENT_COLUMNS
from shared.postgres.arrays import column_names, unnest
from tests.tools.bench.peers.store import COLUMNS, PINS_TABLE, SELECTED_COLUMNS

TABLES = f"""
    {PINS_TABLE};
    create table jobs (
        job_id uuid primary key,
        workspace_id uuid not null,
        total integer not null,
        created integer not null default 0,
        existing integer not null default 0,
        failed integer not null default 0,
        created_at timestamptz not null,
        settled_at timestamptz
    ) with (fillfactor = 50);
    create table import_keys (
        workspace_id uuid,
        key text,
        digest bytea not null,
        job_id uuid not null,
        primary key (workspace_id, key)
    );
    create table results (
        job_id uuid,
        row_number integer,
        status text not null,
        pin_id uuid,
        schedule_id uuid,
        idempotency_key text,
        detail json,
        primary key (job_id, row_number)
    );
    create table result_texts (job_id uuid primary key, results text not null);
    alter table result_texts alter column results set storage external;
    create table outbox (
        id bigint generated always as identity primary key,
        workspace_id uuid not null,
        rows integer not null,
        events bytea not null
    ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
    alter table outbox alter column events set storage external;
    create view row_results as
        select job_id, row_number, status, pin_id, schedule_id, idempotency_key, detail from results
        union all
        select t.job_id, (r ->> 'row_number')::integer, r ->> 'status', (r ->> 'pin_id')::uuid,
            (r ->> 'schedule_id')::uuid, r ->> 'idempotency_key', r
        from result_texts t cross join lateral json_array_elements(t.results::json) as r
"""

CLAIM_KEY = """
    insert into import_keys (workspace_id, key, digest, job_id)
    values (%b::uuid, %b::text, %b::bytea, %b::uuid)
    on conflict do nothing returning job_id
"""
"""Claims an Idempotency-Key. Of two requests at once, the second waits for the first's commit."""
SELECT_CLAIM = """
    select k.digest, k.job_id, j.total, j.failed from import_keys k left join jobs j using (job_id)
    where k.workspace_id = %b::uuid and k.key = %b::text
"""
OPEN_JOB = """
    insert into jobs (job_id, workspace_id, total, failed, created_at)
    values (%b::uuid, %b::uuid, %b::int4, %b::int4, %b::timestamptz) on conflict do nothing
"""
LOCK_JOB = "select settled_at from jobs where job_id = %b::uuid for update"
"""Finds out whether a redelivered task has settled. Two deliveries at once wait for each other."""
CLOSE_JOB = """
    insert into jobs
        (job_id, workspace_id, total, created, existing, failed, created_at, settled_at)
    values (%b::uuid, %b::uuid, %b::int4, %b::int4, %b::int4, %b::int4, %b::timestamptz,
        %b::timestamptz)
    on conflict (job_id) do update set created = excluded.created, existing = excluded.existing,
        failed = excluded.failed, settled_at = excluded.settled_at
"""
CHECK_DESTINATIONS = """
    select a.id is not null, b.board_id is not null
    from unnest(%b::uuid[], %b::uuid[], %b::text[])
        with ordinality as d(workspace_id, account_id, board_id, ordinal)
    left join access.accounts a
        on a.workspace_id = d.workspace_id and a.id = d.account_id and a.revoked_at is null
    left join access.boards b on b.account_id = a.id and b.board_id = d.board_id
    order by d.ordinal
"""
# Sorted by id, because two imports with overlapping keys would deadlock otherwise. Of rows with the
# same key the first one creates the pin
INSERT_PINS = f"""
    with inserted as (
        insert into pins ({column_names(COLUMNS)}, state, published_at)
        select {SELECTED_COLUMNS},
            case when run_at is null then 'published' else 'scheduled' end,
            case when run_at is null then now() end
        from {unnest(COLUMNS)} as r({column_names(COLUMNS)})
        order by pin_id, origin_row
        on conflict (pin_id) do nothing
        returning origin_row
    )
    select now(), coalesce(array_agg(origin_row), '{{}}') from inserted
"""
# A statement of its own: in the statement of the insert, an id that another transaction has just
# committed would come back from neither part
SELECT_EXISTING = f"""
    select pin_id, origin_job_id, origin_row, state, {", ".join(CONTENT_COLUMNS)} from pins
    where pin_id = any(%b::uuid[])
"""

RESULT_COLUMNS = (
    ("row_number", "int4"),
    ("status", "text"),
    ("pin_id", "uuid"),
    ("schedule_id", "uuid"),
    ("idempotency_key", "text"),
    ("detail", "text"),
)
INSERT_RESULT_ROWS = f"""
    insert into results (job_id, {column_names(RESULT_COLUMNS)})
    select %b::uuid, row_number, status, pin_id, schedule_id, idempotency_key, detail::json
    from {unnest(RESULT_COLUMNS)} as r({column_names(RESULT_COLUMNS)})
"""
INSERT_RESULT_TEXT = "insert into result_texts (job_id, results) values (%b::uuid, %b::text)"
INSERT_OUTBOX = """
    insert into outbox (workspace_id, rows, events) values (%b::uuid, %b::int4, %b::bytea)
"""
TAKE_OUTBOX = """
    select id, workspace_id, events from outbox order by id limit %b::int4 for update skip locked
"""
DELETE_OUTBOX = "delete from outbox where id = any(%b::int8[])"

SELECT_JOB = """
    select job_id, total, created, existing, failed, settled_at from jobs where job_id = %b::uuid
"""
SELECT_RESULTS = """
    select row_number, status, pin_id, schedule_id, idempotency_key, detail from row_results
    where job_id = %b::uuid and (%b::int4 is null or row_number = %b::int4) order by row_number
"""
