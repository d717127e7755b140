"""Adds what the delivery of pins to Pinterest needs (ADR 0045 and 0047)."""

from alembic import op

from deploy.migrations.grants import WRITE, grant_on

revision = "0018"
down_revision = "0017"

ROLE = "pinflow_publisher"


def upgrade() -> None:
    _extend_pins()
    _extend_outcomes()
    _add_attempts()
    _add_accounts()
    _add_budgets()
    _add_removals()


def _extend_pins() -> None:
    # All columns are null for a pin of an account without Pinterest, so its row does not grow.
    # delivery: decided with the board check, never changed. deliver_after, deferral_code: the pin
    # itself waits, because Pinterest could not fetch its image
    op.execute("""
        alter table publisher.pins
            add column delivery text constraint pins_delivery check (delivery = 'pinterest'),
            add column pinterest_pin_id text,
            add column deliver_after timestamptz,
            add column deferral_code text,
            add column removed_at timestamptz,
            drop constraint pins_state,
            add constraint pins_state check (state in (
                'scheduled', 'queued', 'publishing', 'confirming', 'published', 'failed',
                'cancelled'
            )),
            add constraint pins_delivering check (
                delivery is not null or (
                    state not in ('queued', 'publishing', 'confirming')
                    and num_nonnulls(pinterest_pin_id, deliver_after, deferral_code, removed_at) = 0
                )
            ),
            add constraint pins_delivered check (
                delivery is null or state <> 'published' or pinterest_pin_id is not null
            )
    """)
    # Schedules come first because nulls are last, then bulk in the order of its rows
    op.execute("""
        create index pins_queue on publisher.pins (account_id, run_at, created_at, pin_id)
        where state = 'queued' and deleted_at is null
    """)
    # A pin of Pinterest belongs to one pin of Pinflow: confirming adopts no id twice
    op.execute("""
        create unique index pins_of_pinterest on publisher.pins (pinterest_pin_id)
        where pinterest_pin_id is not null
    """)


def _extend_outcomes() -> None:
    op.execute("""
        alter table publisher.row_outcomes
            drop constraint row_outcomes_existing_state,
            add constraint row_outcomes_existing_state check (existing_state in (
                'published', 'scheduled', 'queued', 'publishing', 'failed', 'canceled', 'deleted'
            ))
    """)


def _add_attempts() -> None:
    # Committed before the request leaves. An attempt without an outcome is unsettled: it
    # is confirmed, and never sent again. compared: a digest of the board and the texts that are
    # compared with Pinterest's lists. absent_at: when a look first found nothing
    op.execute("""
        create table publisher.delivery_attempts (
            attempt_id uuid primary key,
            pin_id uuid not null,
            number integer not null,
            workspace_id uuid not null,
            account_id uuid not null,
            mode text not null,
            fence bigint not null,
            board_id text not null,
            compared uuid not null,
            texts json not null,
            started_at timestamptz not null default clock_timestamp(),
            deadline_at timestamptz not null,
            looks integer not null default 0,
            next_look_at timestamptz,
            absent_at timestamptz,
            outcome text constraint delivery_attempts_outcome check (outcome in (
                'created', 'refused', 'not_sent', 'found', 'absent', 'unconfirmed'
            )),
            settled_at timestamptz,
            pinterest_pin_id text,
            error_code text,
            error_message text,
            constraint delivery_attempts_number unique (pin_id, number),
            constraint delivery_attempts_settled
                check ((outcome is null) = (settled_at is null)),
            constraint delivery_attempts_id check (
                (pinterest_pin_id is not null) = (coalesce(outcome, '') in ('created', 'found'))
            )
        )
    """)
    op.execute("""
        create index delivery_attempts_unsettled on publisher.delivery_attempts (account_id)
        where outcome is null
    """)
    # Attempts that may have made a pin whose id is not known. A look compares them, too
    op.execute("""
        create index delivery_attempts_unknown on publisher.delivery_attempts (board_id, started_at)
        where outcome is null or outcome in ('absent', 'unconfirmed', 'found')
    """)
    # A pin that was sent again has one id, and its attempts may have made several
    op.execute("""
        create index delivery_attempts_made on publisher.delivery_attempts (pinterest_pin_id)
        where pinterest_pin_id is not null
    """)
    grant_on("publisher.delivery_attempts", ROLE, WRITE)


def _add_accounts() -> None:
    # One row for each account that the delivery process has served. lease_fence: grows with each
    # lease. next_at: nothing is sent before (spacing). paused_until, pause_code: the pause of the
    # account, pause_step: how often it grew
    op.execute("""
        create table publisher.delivery_accounts (
            account_id uuid primary key,
            workspace_id uuid not null,
            lease_fence bigint not null default 0,
            lease_until timestamptz,
            served_at timestamptz,
            next_at timestamptz,
            paused_until timestamptz,
            pause_code text,
            pause_message text,
            pause_step integer not null default 0,
            constraint delivery_accounts_pause
                check (num_nonnulls(paused_until, pause_code, pause_message) in (0, 3))
        ) with (fillfactor = 50)
    """)
    grant_on("publisher.delivery_accounts", ROLE, WRITE)
    # The app as a whole, in each mode
    op.execute("""
        create table publisher.delivery_apps (
            mode text primary key,
            paused_until timestamptz,
            pause_code text,
            pause_message text,
            pause_step integer not null default 0,
            constraint delivery_apps_pause
                check (num_nonnulls(paused_until, pause_code, pause_message) in (0, 3))
        )
    """)
    grant_on("publisher.delivery_apps", ROLE, WRITE)


def _add_budgets() -> None:
    # Token buckets of Pinterest's limits. account_id: the nil UUID stands for the whole app.
    # blocked_until: Pinterest said that the limit is used up. used: calls of the day that began at
    # day_started_at
    op.execute("""
        create table publisher.pinterest_budgets (
            mode text,
            account_id uuid,
            category text constraint pinterest_budgets_category
                check (category in ('org_write', 'org_read')),
            level double precision not null,
            refilled_at timestamptz not null default clock_timestamp(),
            blocked_until timestamptz,
            day_started_at timestamptz not null default clock_timestamp(),
            used integer not null default 0,
            primary key (mode, account_id, category)
        ) with (fillfactor = 50)
    """)
    grant_on("publisher.pinterest_budgets", ROLE, WRITE)


def _add_removals() -> None:
    # Deletions at Pinterest, which the delivery process carries out. release_key: an undo, which
    # deletes the pin and releases its key after that
    op.execute("""
        create table publisher.removals (
            pin_id uuid primary key,
            workspace_id uuid not null,
            account_id uuid not null,
            pinterest_pin_id text not null,
            release_key boolean not null,
            requested_at timestamptz not null default now(),
            next_at timestamptz not null default now(),
            tries integer not null default 0,
            outcome text constraint removals_outcome check (outcome in ('removed', 'refused')),
            settled_at timestamptz,
            error_code text,
            error_message text,
            constraint removals_settled check ((outcome is null) = (settled_at is null))
        )
    """)
    op.execute("""
        create index removals_waiting on publisher.removals (account_id, next_at)
        where outcome is null
    """)
    grant_on("publisher.removals", ROLE, WRITE)
