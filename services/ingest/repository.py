"""All SQL of ingest: the ledger of requests that were received by topic."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select, tuple_, update

from services.ingest.import_requests import Claim, LedgerEntry, RequestKey
from services.ingest.tables import requests
from shared.contract.errors import DatabaseUnavailable
from shared.postgres.database import Database

# The primary key decides the race of two claims. READ_ENTRIES is a statement of its own, because
# CLAIM can't see a row that another transaction has just committed. CLAIM sorts to avoid deadlocks.
CLAIM = """
    insert into ingest.requests (workspace_id, request_id, body_hash, job_id, accepted_at)
    select * from unnest(%b::uuid[], %b::text[], %b::bytea[], %b::uuid[], %b::timestamptz[])
    order by 1, 2
    on conflict (workspace_id, request_id) do nothing
"""
READ_ENTRIES = """
    select r.workspace_id, r.request_id,
        r.body_hash, r.job_id, r.accepted_at, r.state = 'committed', r.decision
    from ingest.requests r
    join unnest(%b::uuid[], %b::text[]) as requested(workspace_id, request_id)
        using (workspace_id, request_id)
"""
# The first decision counts, because another replica may process the same request
STORE_DECISION = """
    update ingest.requests set decision = coalesce(decision, %b)
    where workspace_id = %b and request_id = %b and job_id = %b and state = 'pending'
    returning decision
"""


class PostgresRequestLedger:
    """The ledger of requests in Postgres. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, LedgerEntry]:
        """Stores the claims of new keys and returns the entry of every key, in one round trip.

        The first of two claims of one key counts.
        """
        first: dict[RequestKey, Claim] = {}
        for claim in claims:
            first.setdefault(claim.key, claim)
        workspaces, names = [key.workspace_id for key in first], [key.request_id for key in first]
        rest = [
            [claim[column] for claim in first.values()] for column in range(1, len(Claim._fields))
        ]
        async with self._database.pipeline() as driver:
            await driver.execute(CLAIM, [workspaces, names, *rest])
            cursor = await driver.execute(READ_ENTRIES, [workspaces, names], binary=True)
            await driver.commit()
            return {
                RequestKey(workspace, name): LedgerEntry(*values)
                for workspace, name, *values in await cursor.fetchall()
            }

    async def store_decision(self, key: RequestKey, job_id: UUID, decision: bytes) -> bytes | None:
        """Stores the decision of a claim.

        Returns the decision that was stored first, or None if the request is committed. Raises
        DatabaseUnavailable if the claim is missing or belongs to another job. Then Postgres was
        replaced by an older copy, and the request must be claimed again.
        """
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(
                STORE_DECISION, [decision, key.workspace_id, key.request_id, job_id], binary=True
            )
            await driver.commit()
            rows = await cursor.fetchall()
        if rows:
            return bytes(rows[0][0])
        is_request = tuple_(requests.c.workspace_id, requests.c.request_id) == key
        request = await self._database.fetch_first(select(requests.c.state).where(is_request))
        if request is None or request["state"] == "pending":
            raise DatabaseUnavailable(
                f"The claim of request {key.request_id} is missing in Postgres. "
                "The batch claims it again."
            )
        return None

    async def mark_committed(self, keys: Collection[RequestKey]) -> None:
        """Marks requests whose records are in Kafka and deletes their decisions."""
        statement = update(requests).where(
            tuple_(requests.c.workspace_id, requests.c.request_id).in_(list(keys))
        )
        async with self._database.transaction() as connection:
            await connection.execute(statement.values(state="committed", decision=None))
