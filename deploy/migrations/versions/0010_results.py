"""Stores row results in batches as JSON, and the settled rows of a job as bits (ADR 0024)."""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # Bit n belongs to row n
    op.execute(
        "alter table status.jobs add column settled bit(501) not null default B'0'::bit(501)"
    )
    op.execute("""
        update status.jobs j set settled = r.bits
        from (
            select job_id, bit_or(set_bit(B'0'::bit(501), row_number, 1)) as bits
            from status.row_results where row_number <= 500 group by job_id
        ) r
        where r.job_id = j.job_id
    """)
    # All rows of a completed job have settled, even if an operator has deleted results since
    op.execute("""
        update status.jobs set settled = (
            B'0' || repeat('1', total_rows)::varbit || repeat('0', 500 - total_rows)::varbit
        )::bit(501)
        where completed_at is not null and total_rows <= 500
    """)
    # Earlier versions accepted forged outcomes of rows above 500. They no longer count
    op.execute("""
        update status.jobs j set
            created_rows = (select count(*) from status.row_results r where r.job_id = j.job_id
                and row_number <= 500 and r.status = 1),
            existing_rows = (select count(*) from status.row_results r where r.job_id = j.job_id
                and row_number <= 500 and r.status = 2),
            failed_rows = (select count(*) from status.row_results r where r.job_id = j.job_id
                and row_number <= 500 and r.status = 3)
        where completed_at is null
            and bit_count(settled) <> created_rows + existing_rows + failed_rows
    """)
    # The database checks that each row is counted once
    op.execute("""
        alter table status.jobs add constraint jobs_settled
            check (bit_count(settled) = created_rows + existing_rows + failed_rows)
    """)
    op.execute("""
        create table status.results (
            job_id uuid,
            first_row integer,
            results text not null,
            primary key (job_id, first_row)
        ) with (autovacuum_vacuum_insert_scale_factor = 0.05,
            autovacuum_analyze_scale_factor = 0.05)
    """)
    # Without compression, which would take 2 us per row
    op.execute("alter table status.results alter column results set storage external")
    op.execute("""
        insert into status.results
        select job_id, min(row_number), json_agg(json_strip_nulls(json_build_object(
            'row_number', row_number,
            'status', (array['created', 'existing', 'failed'])[status],
            'pin_id', pin_id,
            'schedule_id', schedule_id,
            'idempotency_key', idempotency_key,
            'error_code', error_code,
            'error_message', error_message,
            'errors', errors,
            'payload_matches', payload_matches
        )) order by row_number)::text
        from status.row_results where row_number <= 500 group by job_id
    """)
    op.execute("drop table status.row_results")
    grant_on("status.results", "pinflow_status", "select, insert")
