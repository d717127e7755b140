"""Adds the uploads of media to Pinterest (ADR 0048)."""

from alembic import op

from deploy.migrations.grants import WRITE, grant_on

revision = "0019"
down_revision = "0018"

ROLE = "pinflow_publisher"


def upgrade() -> None:
    # The video of a pin, on its way to Pinterest. step: what to do next. source_url, account_id,
    # mode: if they differ from the pin's, the video is uploaded anew. next_at: nobody works at it
    # before; who begins to work moves it ahead. upload_parameters: they permit one upload for some
    # hours, and are deleted after it. registrations: at most 3. tries: failed fetches of the
    # source. looks: waits since the step began. ready_at: when Pinterest last said that it has it
    op.execute("""
        create table publisher.delivery_media (
            pin_id uuid primary key,
            workspace_id uuid not null,
            account_id uuid not null,
            mode text not null,
            source_url text not null,
            step text not null default 'register' constraint delivery_media_step check (step in (
                'register', 'upload', 'process', 'ready', 'failed'
            )),
            media_id text,
            upload_url text,
            upload_parameters json,
            registrations integer not null default 0,
            tries integer not null default 0,
            looks integer not null default 0,
            next_at timestamptz not null default clock_timestamp(),
            ready_at timestamptz,
            error_code text,
            error_message text,
            changed_at timestamptz not null default clock_timestamp(),
            constraint delivery_media_id check (
                media_id is not null or step not in ('upload', 'process', 'ready')
            ),
            constraint delivery_media_upload check (
                num_nonnulls(upload_url, upload_parameters) = case step when 'upload' then 2 else 0
                end
            ),
            constraint delivery_media_failure check (
                num_nonnulls(error_code, error_message) = case step when 'failed' then 2 else 0 end
            )
        )
    """)
    op.execute("""
        create index delivery_media_calls on publisher.delivery_media (account_id, next_at)
        where step in ('register', 'process')
    """)
    op.execute("""
        create index delivery_media_uploads on publisher.delivery_media (next_at)
        where step = 'upload'
    """)
    op.execute("""
        create index delivery_media_changed on publisher.delivery_media (changed_at)
    """)
    # Attempts are deleted after their retention
    op.execute("""
        create index delivery_attempts_settled_at on publisher.delivery_attempts (settled_at)
        where outcome is not null
    """)
    grant_on("publisher.delivery_media", ROLE, WRITE)
