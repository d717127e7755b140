"""Creates the tables of jobs and of the results of their rows."""

from alembic import op

from deploy.migrations.grants import WRITE, create_schema, grant

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_schema("status")
    op.execute("""
        create table status.jobs (
            job_id uuid primary key,
            workspace_id uuid not null,
            accepted_at timestamptz,
            started_at timestamptz,
            completed_at timestamptz,
            updated_at timestamptz not null default now(),
            announced_at timestamptz,
            total_rows integer,
            created_rows integer not null default 0,
            existing_rows integer not null default 0,
            failed_rows integer not null default 0,
            status text not null default 'queued' constraint jobs_status
                check (status in
                    ('queued', 'processing', 'completed', 'completed_with_errors', 'failed')),
            source_type text,
            source_filename text,
            request_id text,
            warnings jsonb,
            error_code text,
            error_message text,
            constraint jobs_known check ((accepted_at is null) = (total_rows is null)),
            constraint jobs_counters
                check (created_rows + existing_rows + failed_rows <= total_rows),
            constraint jobs_terminal check
                ((completed_at is not null) = (total_rows is not null
                    and created_rows + existing_rows + failed_rows = total_rows))
        ) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05)
    """)
    # The only definition of a job's status by its counters. The upsert that adds outcomes to a job
    # calls it for new and for existing jobs
    op.execute("""
        create function status.job_status(
            total integer, created integer, existing integer, failed integer
        ) returns text
        language sql immutable return case
            when total is null or created + existing + failed < total then
                case when created + existing + failed = 0 then 'queued' else 'processing' end
            when failed = total then 'failed'
            when failed > 0 then 'completed_with_errors'
            else 'completed'
        end
    """)
    op.execute("create index jobs_of_workspace on status.jobs (workspace_id, accepted_at, job_id)")
    op.execute(
        "create index jobs_unannounced on status.jobs (job_id) where completed_at is not null and "
        "announced_at is null"
    )
    op.execute("""
        create table status.row_results (
            job_id uuid,
            row_number integer,
            status smallint not null constraint row_results_status check (status in (1, 2, 3)),
            payload_matches boolean,
            pin_id uuid,
            schedule_id uuid,
            idempotency_key text,
            error_code text,
            error_message text,
            errors jsonb,
            primary key (job_id, row_number)
        ) with (autovacuum_vacuum_insert_scale_factor = 0.05,
            autovacuum_analyze_scale_factor = 0.05)
    """)
    grant("status", "pinflow_status", WRITE)
