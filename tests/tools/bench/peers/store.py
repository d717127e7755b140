"""Tables of a peer in a schema of its own, and the statements that settle rows in them.

The statements are the publisher's without Pinflow's own features. They have one computed unique
key, typed columns as binary arrays, rows sorted by id, and ON CONFLICT DO NOTHING. Connections find
the tables by their search path.
"""

from collections.abc import Mapping
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from psycopg import sql

from shared.postgres.arrays import column_names, unnest
from tests.tools.bench.peers.exactness import find_faults

COLUMNS = (
    ("pin_id", "uuid"),
    ("workspace_id", "uuid"),
    ("fingerprint", "uuid"),
    ("origin_job_id", "uuid"),
    ("origin_row", "int4"),
    ("created_at", "timestamptz"),
    ("account_id", "uuid"),
    ("asset_id", "uuid"),
    ("cover_image_asset_id", "uuid"),
    ("run_at", "timestamptz"),
    ("idempotency_key", "text"),
    ("board_id", "text"),
    ("title", "text"),
    ("description", "text"),
    ("alt_text", "text"),
    ("link_url", "text"),
    ("image_url", "text"),
    ("cover_image_url", "text"),
    ("dominant_color", "text"),
    ("related_terms", "text"),
)

PINS_TABLE = """
    create table pins (like publisher.pins including all);
    alter table pins set (autovacuum_vacuum_insert_scale_factor = 0.05,
        autovacuum_analyze_scale_factor = 0.05)
"""
TABLES = f"""
    {PINS_TABLE};
    create table jobs (
        job_id uuid primary key,
        total integer not null,
        failed integer not null,
        created integer not null default 0,
        existing integer not null default 0,
        created_at timestamptz not null default now()
    ) with (fillfactor = 50);
    create table results (
        job_id uuid,
        row_number integer,
        is_created boolean not null,
        primary key (job_id, row_number)
    );
    create view progress as
        select j.job_id, j.total, j.failed, j.created + coalesce(r.created, 0) as created,
            j.existing + coalesce(r.existing, 0) as existing
        from jobs j
        left join lateral (
            select count(*) filter (where is_created) as created,
                count(*) filter (where not is_created) as existing
            from results r where r.job_id = j.job_id
        ) r on true
"""

INSERT_JOB = "insert into jobs (job_id, total, failed) values (%b::uuid, %b::int4, %b::int4)"

SELECTED_COLUMNS = ", ".join(
    "related_terms::json" if name == "related_terms" else name for name, _ in COLUMNS
)
_PUBLISH = f"""
    inserted as (
        insert into pins ({column_names(COLUMNS)}, state, published_at)
        select {SELECTED_COLUMNS},
            case when run_at is null then 'published' else 'scheduled' end,
            case when run_at is null then now() end
        from rows order by pin_id
        on conflict (pin_id) do nothing
        returning origin_row
    )
"""
_ROWS = f"rows as materialized (select * from {unnest(COLUMNS)} as r({column_names(COLUMNS)}))"

SETTLE_IMPORT = f"""
    with {_ROWS}, {_PUBLISH}, counted as (
        select (select count(*) from rows) as rows, (select count(*) from inserted) as created
    )
    update jobs set created = jobs.created + c.created,
        existing = jobs.existing + c.rows - c.created
    from counted c
    where job_id = %b::uuid and jobs.created + jobs.existing + jobs.failed + c.rows <= total
"""
"""Settles a whole import, with the job's counters in the same transaction.

A second execution does not count again, because the counters would exceed the total.
"""

SETTLE_ROW = f"""
    with {_ROWS}, {_PUBLISH}
    insert into results (job_id, row_number, is_created)
    select origin_job_id, origin_row, origin_row in (select origin_row from inserted) from rows
    on conflict do nothing
"""
"""Settles one row and stores its result.

Counters in the job would make all workers wait for each other's commits.
"""

PROGRESS = "select total, failed, created, existing from progress where job_id = %b::uuid"


class Store:
    """A peer's tables, as the benchmark reads them."""

    tables: LiteralString = TABLES

    def __init__(self, owner_url: str, schema: str) -> None:
        options = quote(f"-csearch_path={schema}")
        self.url = f"{owner_url}{'&' if '?' in owner_url else '?'}options={options}"
        self.connection = psycopg.connect(self.url, autocommit=True)
        name = sql.Identifier(schema)
        self.connection.execute(sql.SQL("drop schema if exists {} cascade").format(name))
        self.connection.execute(sql.SQL("create schema {}").format(name))
        self.connection.execute(self.tables)

    def close(self) -> None:
        self.connection.close()

    def find_faults(self, sent: Mapping[str, int]) -> list[str]:
        """Describes lost, extra or uncounted rows. `sent` are numbers of rows by mark."""
        return find_faults(sent, self.count_rows_by_mark(), self.count_created_rows())

    def count_settled_rows(self) -> int:
        """Counts settled rows: counters of jobs plus results. No row is in both."""
        return self.read_number(
            "select (select count(*) from results) + coalesce(sum(created + existing + failed), 0) "
            "from jobs"
        )

    def count_rows_by_mark(self) -> Mapping[str, int]:
        """Counts rows by the mark of their import, which is the prefix of their keys."""
        return dict(
            self.connection.execute(
                "select split_part(idempotency_key, '-', 1), count(*) from pins group by 1"
            ).fetchall()
        )

    def count_created_rows(self) -> int:
        return self.read_number("select coalesce(sum(created), 0) from progress")

    def read_number(self, statement: LiteralString) -> int:
        """Executes a statement whose only value is a number."""
        row: tuple[Any, ...] | None = self.connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])
