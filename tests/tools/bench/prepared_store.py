"""Fills the store with pins as after months of use.

One workspace has three fifths of the pins; many small ones share the rest. The pins are inserted by
SQL, because the pipeline would take minutes.
"""

from collections.abc import Sequence
from hashlib import md5
from uuid import UUID

import psycopg

ROWS_PER_STATEMENT = 250_000
ACCOUNTS, BOARDS = 20, 50
NEEDLE = "Needle"
"""Word that only one title contains: that of the large workspace's oldest ordinary pin."""

# Blocks of 100 rows belong to one workspace, like an import; pins are 0.2 s apart. Of 100 rows one
# has failed, two are scheduled, and one was scheduled before it was published. Of 1000 rows one is
# deleted. The statement uses `mod`, because psycopg reserves %
FILL = f"""
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, run_at, published_at, failed_at,
        deleted_at, error_code, error_message, state, idempotency_key, board_id, title,
        description, link_url, image_url
    )
    select gen_random_uuid(), workspace_id, md5(mod(n, {ACCOUNTS})::text)::uuid, gen_random_uuid(),
        created_at,
        case when state = 'scheduled' then now() + (1 + mod(n, 1000)) * interval '1 hour'
            when mod(n, 100) = 3 then created_at end,
        case when state = 'published' then created_at end,
        case when state = 'failed' then created_at end,
        case when mod(n, 1000) = 4 then created_at end,
        case when state = 'failed' then case when mod(n, 200) = 0 then 'account_not_found'
            else 'board_not_found' end end,
        case when state = 'failed' then 'board_id: no such board on this account' end,
        state, 'campaign-' || n, 'board-' || mod(n / 7, {BOARDS}),
        case when n = 5 then '{NEEDLE}'
            else initcap(left(md5(n::text), 8)) || ' lamp, warm light number ' || n end,
        'Warm light for long evenings; ships within two days, made of ' || md5(n::text || 'd'),
        'https://shop.example/lamps/' || md5(n::text || 'l') || '?utm_source=pinterest',
        'https://cdn.example/' || md5(n::text || 'i') || '.jpg'
    from (
        select n, now() - (%(rows)s - n) * interval '0.2 seconds' as created_at,
            case when mod(n / 100, 5) < 3 then %(large)s::uuid
                else (%(small)s::uuid[])[1 + mod(n / 500, %(small_count)s)] end as workspace_id,
            case when mod(n, 100) = 0 then 'failed' when mod(n, 100) in (1, 2) then 'scheduled'
                else 'published' end as state
        from generate_series(%(first)s::int, %(last)s::int) n
    ) numbered
"""


def fill_store(database_url: str, rows: int, large: UUID, small: Sequence[UUID]) -> None:
    """Inserts `rows` pins, then vacuums and analyzes the table as autovacuum would."""
    parameters = {"rows": rows, "large": large, "small": list(small), "small_count": len(small)}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for first in range(0, rows, ROWS_PER_STATEMENT):
            connection.execute(
                FILL,
                {**parameters, "first": first, "last": min(first + ROWS_PER_STATEMENT, rows) - 1},
            )
        connection.execute("vacuum (freeze, analyze) publisher.pins")


def compute_account_id(number: int) -> str:
    """Computes the id of an account, by its number."""
    return str(UUID(md5(str(number % ACCOUNTS).encode(), usedforsecurity=False).hexdigest()))
