"""Adds the state and the differing fields of existing rows, and an import's counts by time."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    # Recorded outcomes repeat them after a restore. differing_fields is JSON, never searched.
    # The roles' privileges on the tables include new columns
    op.execute("""
        alter table publisher.row_outcomes
            add column existing_state text constraint row_outcomes_existing_state check (
                existing_state in
                    ('published', 'scheduled', 'queued', 'failed', 'canceled', 'deleted')
            ),
            add column differing_fields text,
            add constraint row_outcomes_existing check (
                status = 'existing' or (existing_state is null and differing_fields is null)
            )
    """)
    # Bit n of not_published belongs to row n: it is existing, but its pin will not be published.
    # Null, as for most jobs, stands for no such row
    op.execute("""
        alter table status.jobs
            add column publishing_now integer,
            add column scheduled_for_later integer,
            add column not_published bit(501)
    """)
