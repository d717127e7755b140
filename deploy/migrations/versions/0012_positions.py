"""Adds the consumers' positions, and records all outcomes instead of failures (ADR 0030, 0031)."""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0012"
down_revision = "0011"

DATA_TABLES = {
    "publisher": "publisher.pins",
    "status": "status.jobs",
    "webhooks": "webhooks.endpoints",
}
"""The schemas that get positions. Each has a table that has rows if the service was used before."""


def upgrade() -> None:
    for schema, data_table in DATA_TABLES.items():
        _add_positions(schema, data_table)
    _record_all_outcomes()


def _add_positions(schema: str, data_table: str) -> None:
    role = f"pinflow_{schema}"
    # Every batch updates it. With free space on the page an update touches no index, and pruning
    # removes the old versions
    op.execute(f"""
        create table {schema}.positions (
            topic text,
            partition integer,
            next_offset bigint not null constraint positions_next_offset check (next_offset >= 0),
            cluster_id text not null,
            replay_until bigint,
            refused text constraint positions_refused
                check (refused in ('before_begin', 'beyond_end', 'other_cluster')),
            updated_at timestamptz not null default now(),
            primary key (topic, partition)
        ) with (fillfactor = 20)
    """)
    # Rows are locked in order, otherwise two publishers deadlock. The function raises an error
    # before other statements take effect, because the transaction's statements are sent together
    op.execute(f"""
        create function {schema}.hold_positions(
            topics text[], partitions integer[], starts bigint[], ends bigint[]
        ) returns timestamptz language plpgsql as $$
        declare
            held integer;
        begin
            select count(*) into held from (
                select from {schema}.positions p
                join unnest(topics, partitions, starts) as c (topic, partition, start)
                    on p.topic = c.topic and p.partition = c.partition
                where p.next_offset >= c.start and p.refused is null
                order by p.topic, p.partition
                for update of p
            ) as locked;
            if held < cardinality(topics) then
                raise exception 'a stored position is behind' using errcode = 'PF001';
            end if;
            if ends is not null then
                update {schema}.positions p set next_offset = c.until, updated_at = now()
                from unnest(topics, partitions, ends) as c (topic, partition, until)
                where p.topic = c.topic and p.partition = c.partition and p.next_offset < c.until;
            end if;
            return now();
        end
        $$
    """)
    # A service that was used before has no positions at its first start. It copies the committed
    # offsets of its group once, and deletes this row
    op.execute(f"create table {schema}.position_seed (since timestamptz not null default now())")
    op.execute(
        f"insert into {schema}.position_seed select now() where exists (select from {data_table})"
    )
    grant_on(f"{schema}.positions", role, "select, insert, update")
    grant_on(f"{schema}.position_seed", role, "select, delete")
    op.execute(
        f"grant execute on function {schema}.hold_positions(text[], integer[], bigint[], bigint[]) "
        f"to {role}"
    )


def _record_all_outcomes() -> None:
    op.execute("alter table publisher.row_failures rename to row_outcomes")
    op.execute(
        "alter table publisher.row_outcomes rename constraint row_failures_pkey to "
        "row_outcomes_pkey"
    )
    # All existing rows are failures. promised_pin_id is the pin id of a row that was created
    op.execute("""
        alter table publisher.row_outcomes
            add column status text not null default 'failed' constraint row_outcomes_status
                check (status in ('created', 'existing', 'failed')),
            add column pin_id uuid,
            add column schedule_id uuid,
            add column payload_matches boolean,
            add column promised_pin_id uuid,
            alter column error_code drop not null,
            alter column error_message drop not null,
            add constraint row_outcomes_failed check (
                (status = 'failed') = (error_code is not null and error_message is not null)
                and (status = 'failed') = (pin_id is null and schedule_id is null)
            ),
            add constraint row_outcomes_promised check (
                promised_pin_id is null or status = 'created'
            )
    """)
    op.execute("alter table publisher.row_outcomes alter column status drop default")
    # For ANALYZE: the service runs it after it has recorded many outcomes at once
    grant_on("publisher.row_outcomes", "pinflow_publisher", "maintain")
    op.execute("""
        create index row_outcomes_promised_pins on publisher.row_outcomes (promised_pin_id)
        where promised_pin_id is not null
    """)
