"""The SQL with which attempts are read from the topic `deliveries` into Postgres."""

from sqlalchemy import text

from shared.postgres.arrays import column_names, unnest

RESTORED_COLUMNS = (
    ("attempt_id", "uuid"),
    ("pin_id", "uuid"),
    ("number", "int4"),
    ("workspace_id", "uuid"),
    ("account_id", "uuid"),
    ("mode", "text"),
    ("fence", "int8"),
    ("board_id", "text"),
    ("compared", "uuid"),
    ("texts", "text"),
    ("started_at", "timestamptz"),
    ("deadline_at", "timestamptz"),
)
SETTLED_COLUMNS = (
    ("attempt_id", "uuid"),
    ("outcome", "text"),
    ("pinterest_pin_id", "text"),
    ("settled_at", "timestamptz"),
)

# An attempt of this process, or of another one with the same Postgres, has its row: it was
# committed before the record was sent. The numbers continue those in Postgres, where another
# attempt may have the number of a lost one
INSERT_ATTEMPTS = f"""
    insert into publisher.delivery_attempts (
        attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id, compared,
        texts, started_at, deadline_at, is_applied
    )
    select r.attempt_id, r.pin_id,
        coalesce(
            (select max(a.number) from publisher.delivery_attempts a where a.pin_id = r.pin_id), 0
        ) + row_number() over (partition by r.pin_id order by r.started_at, r.number),
        r.workspace_id, r.account_id, r.mode, r.fence, r.board_id, r.compared, r.texts::json,
        r.started_at, r.deadline_at, false
    from {unnest(RESTORED_COLUMNS)} as r ({column_names(RESTORED_COLUMNS)})
    where not exists (
        select from publisher.delivery_attempts a where a.attempt_id = r.attempt_id
    )
    returning attempt_id
"""
# An attempt that is unsettled in Postgres takes only an id from Kafka. Its other outcomes are
# decided with the pin, by the process that has them or by a look at the board. An id that came late
# corrects a look that did not find the pin, which would otherwise be sent again
SETTLE_ATTEMPTS = f"""
    update publisher.delivery_attempts a
    set outcome = r.outcome, pinterest_pin_id = r.pinterest_pin_id, settled_at = r.settled_at,
        is_applied = false
    from {unnest(SETTLED_COLUMNS)} as r ({column_names(SETTLED_COLUMNS)})
    where a.attempt_id = r.attempt_id
        and (
            a.outcome is null and (not a.is_applied or r.pinterest_pin_id is not null)
            or a.outcome in ('absent', 'unconfirmed') and r.pinterest_pin_id is not null
                and not exists (
                    select from publisher.pins q where q.pinterest_pin_id = r.pinterest_pin_id
                )
        )
    returning a.attempt_id
"""
# updated_at bounds what a loss of the topic's records can concern
RENEW_POSITIONS = """
    update publisher.positions set updated_at = now()
    where topic = %s and refused is null and updated_at < now() - interval '10 seconds'
"""
STORE_REFUSAL = text("""
    update publisher.positions set refused = :refused
    where topic = :topic and partition = :partition and refused is null
""")

# Attempts are locked before their pins, as in every transaction of the delivery process
LOCK_ATTEMPTS = text("""
    select attempt_id, pin_id, started_at, deadline_at, outcome, pinterest_pin_id, settled_at,
        is_applied
    from publisher.delivery_attempts
    where (not is_applied or outcome is null) and pin_id in (
        select a.pin_id from publisher.delivery_attempts a where not a.is_applied
            and exists (select from publisher.pins p where p.pin_id = a.pin_id)
        group by a.pin_id order by a.pin_id limit :limit
    )
    order by pin_id, started_at, attempt_id for update
""")
LOCK_PINS = text("""
    select * from publisher.pins where pin_id = any(cast(:pin_ids as uuid[]))
    order by pin_id for update
""")
# A later request is sent only after it is sure that the earlier one made no pin
SETTLE_SUPERSEDED = text("""
    update publisher.delivery_attempts set outcome = 'absent', settled_at = now()
    where pin_id = :pin_id and outcome is null and started_at < :started_at
""")
GIVE_UP_UNSETTLED = text("""
    update publisher.delivery_attempts set outcome = 'unconfirmed', settled_at = now()
    where pin_id = :pin_id and outcome is null and not is_applied
""")
MARK_APPLIED = text("""
    update publisher.delivery_attempts set is_applied = true
    where pin_id = any(cast(:pin_ids as uuid[])) and not is_applied
""")
LOOK_LATER = text("""
    update publisher.delivery_attempts set next_look_at = greatest(deadline_at, now())
    where attempt_id = :attempt_id and outcome is null
""")
# Pinterest's lists tell also what became of an attempt whose pin Postgres has lost
LOOK_FOR_LOST_PINS = text("""
    update publisher.delivery_attempts a set next_look_at = greatest(a.deadline_at, now())
    where not a.is_applied and a.outcome is null and a.next_look_at is null
        and not exists (select from publisher.pins p where p.pin_id = a.pin_id)
""")
COUNT_LOST_PINS = text("""
    select count(distinct a.pin_id) as pins from publisher.delivery_attempts a
    where not a.is_applied and a.pinterest_pin_id is not null
        and not exists (select from publisher.pins p where p.pin_id = a.pin_id)
""")

PUBLISH = text("""
    update publisher.pins set
        state = 'published', published_at = :published_at, pinterest_pin_id = :pinterest_pin_id,
        failed_at = null, error_code = null, error_message = null, deliver_after = null,
        deferral_code = null, updated_at = now()
    where pin_id = :pin_id and not exists (
        select from publisher.pins q where q.pinterest_pin_id = :pinterest_pin_id
    )
    returning *
""")
CONFIRM = text("""
    update publisher.pins set
        state = 'confirming', failed_at = null, error_code = null, error_message = null,
        deliver_after = null, deferral_code = null, updated_at = now()
    where pin_id = :pin_id
""")
FAIL = text("""
    update publisher.pins set
        state = 'failed', failed_at = :failed_at, error_code = :code, error_message = :message,
        deliver_after = null, deferral_code = null, updated_at = now()
    where pin_id = :pin_id
    returning *
""")
QUEUE = text("""
    update publisher.pins set state = 'queued', updated_at = now() where pin_id = :pin_id
""")

SELECT_LOSSES = text("""
    select min(since) as since, max(accepted_at) as accepted_at from publisher.delivery_losses
    where applied_at is null
""")
# Only these can have been sent: queued pins, and schedules that were due. The pin's own text is
# compared, so the digest and the texts are computed from the row
LOCK_SUSPECTS = text("""
    select p.* from publisher.pins p
    where p.delivery = :delivery and p.deleted_at is null and p.created_at <= :accepted_at
        and (p.state = 'queued' or (p.state = 'scheduled' and p.run_at <= :accepted_at))
        and not exists (
            select from publisher.delivery_attempts a
            where a.pin_id = p.pin_id and a.started_at = :since and a.fence = :lost_fence
        )
    order by p.pin_id limit :limit for update
""")
INSERT_SUSPECTS = f"""
    insert into publisher.delivery_attempts (
        attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id, compared,
        texts, started_at, deadline_at, next_look_at
    )
    select r.attempt_id, r.pin_id,
        coalesce(
            (select max(a.number) from publisher.delivery_attempts a where a.pin_id = r.pin_id), 0
        ) + 1,
        r.workspace_id, r.account_id, r.mode, r.fence, r.board_id, r.compared, r.texts::json,
        r.started_at, r.deadline_at, now()
    from {unnest(RESTORED_COLUMNS)} as r ({column_names(RESTORED_COLUMNS)})
"""
CONFIRM_SUSPECTS = text("""
    update publisher.pins set state = 'confirming', deliver_after = null, deferral_code = null,
        updated_at = now()
    where pin_id = any(cast(:pin_ids as uuid[]))
""")
COUNT_SUSPECTS = text("""
    update publisher.delivery_losses set pins = pins + :pins where applied_at is null
""")
END_LOSSES = text("""
    update publisher.delivery_losses set applied_at = now()
    where applied_at is null and accepted_at <= :accepted_at
""")
