"""The plan of the backlog's statement if nearly all queued pins are of one account."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from services.publisher.backlog import repository
from shared.postgres.database import Database

ACCOUNTS = 50
PINS = 5000

INSERT_ACCOUNTS = text("""
    with added as (
        insert into access.workspaces (id, name) values (:workspace_id, 'Test') returning id
    ), accounts as (
        insert into access.accounts (id, workspace_id, display_name, username)
        select gen_random_uuid(), id, 'Account', 'account' from added, generate_series(1, :count)
        returning id, workspace_id
    )
    insert into access.connections (
        account_id, workspace_id, mode, pinterest_user_id, grant_type, scopes, token_version,
        token_expires_at
    )
    select id, workspace_id, 'simulated', id::text, 'authorization_code', array['pins:write'], 1,
        now() + interval '30 days'
    from accounts
""")
INSERT_PINS = text("""
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, state, idempotency_key,
        board_id, title, image_url, delivery
    )
    select gen_random_uuid(), c.workspace_id, c.account_id, gen_random_uuid(), now(), 'queued',
        n::text, '1', 'Lamp', 'https://cdn.example/1.jpg', 'pinterest'
    from generate_series(1, :count) n
    cross join (
        select account_id, workspace_id from access.connections
        where workspace_id = :workspace_id order by account_id limit 1
    ) c
""")


def list_rows(node: dict[str, Any]) -> Iterator[float]:
    """Yields how many rows each node reads of the table of pins."""
    if node.get("Relation Name") == "pins":
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        yield read * node["Actual Loops"]
    for child in node.get("Plans", []):
        yield from list_rows(child)


async def test_each_queued_pin_is_read_once_however_many_accounts_have_none(
    database: Database,
) -> None:
    workspace_id = uuid4()
    async with database.transaction() as connection:
        values = {"workspace_id": workspace_id}
        await connection.execute(INSERT_ACCOUNTS, {**values, "count": ACCOUNTS})
        await connection.execute(INSERT_PINS, {**values, "count": PINS})
        await connection.execute(text("analyze publisher.pins"))
    explained = text(f"explain (analyze, format json) {repository._SELECT_ACCOUNTS.text}")
    (row,) = await database.fetch_all(
        explained.bindparams(
            workspace_id=workspace_id, permitted=None, mode="simulated", category="org_write"
        )
    )
    read = sum(list_rows(row["QUERY PLAN"][0]["Plan"]))
    assert PINS <= read <= PINS + ACCOUNTS
