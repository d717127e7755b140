"""Adds what canceling, undoing, retrying and checking imports need (ADR 0038 to 0040)."""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    _add_generations()
    _add_index_of_hidden_pins()
    _add_commands_of_imports()
    _add_request_channels()
    _keep_parameters()


def _add_generations() -> None:
    # The row under a key's first pin id tells whether the key is free, and who has it.
    # All columns are null for a pin that nobody has changed, so usual rows don't grow
    op.execute("""
        alter table publisher.pins
            add column touched_at timestamptz,
            add column released_at timestamptz,
            add column generation integer,
            add column current_pin_id uuid,
            add constraint pins_released check (
                (current_pin_id is null or released_at is not null)
                and (released_at is null or deleted_at is not null)
            ),
            add constraint pins_generation check (generation > 0)
    """)
    # promised_generation: the generation of the pin that a lost Postgres had, null for the first.
    # promised_pin_id is the first pin id of its key
    op.execute("""
        alter table publisher.row_outcomes
            add column updated boolean,
            add column promised_generation integer,
            add constraint row_outcomes_promised_generation check (
                promised_generation is null
                or (promised_generation > 0 and promised_pin_id is not null)
            ),
            add constraint row_outcomes_updated check (updated is null or status = 'existing')
    """)

    # A batch's usual statements call it for a pin that only all rules together can judge. Then
    # nothing of the batch is written, and it is settled by all rules in one transaction
    op.execute("""
        create function publisher.require_all_rules()
        returns timestamptz language plpgsql as $$
        begin
            raise exception 'a key of the batch was released' using errcode = 'PF003';
        end
        $$
    """)
    op.execute("grant execute on function publisher.require_all_rules() to pinflow_publisher")


def _add_index_of_hidden_pins() -> None:
    # Together with pins_shown it finds all pins of a job by their created_at. Each row is in one of
    # the two, so a row that is published at once costs no further entry
    op.execute("""
        create index pins_not_shown on publisher.pins (workspace_id, created_at)
        where deleted_at is not null or state in ('scheduled', 'cancelled')
    """)


def _add_commands_of_imports() -> None:
    # A row whose record stands before next_offset was settled before the cancellation
    op.execute("""
        create table publisher.canceled_jobs (
            job_id uuid,
            workspace_id uuid,
            partition integer,
            next_offset bigint not null,
            canceled_at timestamptz not null default now(),
            primary key (job_id, workspace_id, partition)
        )
    """)
    # A batch checks it together with its other statements, before it knows any result
    op.execute("""
        create function publisher.require_not_canceled(jobs uuid[])
        returns void language plpgsql as $$
        begin
            if exists (select from publisher.canceled_jobs where job_id = any(jobs)) then
                raise exception 'a job of the batch is canceled' using errcode = 'PF002';
            end if;
        end
        $$
    """)
    op.execute(
        "grant execute on function publisher.require_not_canceled(uuid[]) to pinflow_publisher"
    )
    # One undo of each job. The primary key decides the race of two
    op.execute("""
        create table publisher.undos (
            job_id uuid,
            workspace_id uuid,
            undo_id uuid not null,
            undone_at timestamptz not null default now(),
            result json not null,
            primary key (job_id, workspace_id)
        )
    """)
    grant_on("publisher.canceled_jobs", "pinflow_publisher", "select, insert, delete")
    # Updated if a key undoes what an earlier key was not permitted to
    grant_on("publisher.undos", "pinflow_publisher", "select, insert, update, delete")


def _add_request_channels() -> None:
    # A request id of the topic and an Idempotency-Key of HTTP are different keys.
    # busy_until: until then the request belongs to the attempt that claimed it. answer: the import
    # that the first request became, for the next ones
    op.execute("""
        alter table ingest.requests
            add column channel text not null default 'topic'
                constraint requests_channel check (channel in ('topic', 'http', 'retry')),
            add column busy_until timestamptz,
            add column answer bytea,
            drop constraint requests_pkey,
            add constraint requests_pkey primary key (workspace_id, channel, request_id)
    """)
    # Requests by topic are kept: a topic can be read again from its beginning
    op.execute("""
        create index requests_to_delete on ingest.requests (accepted_at)
        where channel in ('http', 'retry')
    """)
    grant_on("ingest.requests", "pinflow_ingest", "delete")


def _keep_parameters() -> None:
    op.execute("alter table status.uploads add column parameters json")
    op.execute("alter table status.jobs add column parent_id uuid")
    # Results of an earlier version have no time: the default comes after the column
    op.execute("alter table status.results add column folded_at timestamptz")
    op.execute("alter table status.results alter column folded_at set default now()")
