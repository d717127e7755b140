"""All SQL of ingest: the ledger of requests that have a key."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, tuple_, update

from services.ingest.ledger import Claim, LeasedEntry, LedgerEntry, RequestKey
from services.ingest.tables import requests
from shared.contract.errors import DatabaseUnavailable
from shared.postgres.database import Database

# The primary key decides the race of two claims. READ_ENTRIES is a statement of its own, because
# CLAIM can't see a row that another transaction has just committed. CLAIM sorts to avoid deadlocks.
CLAIM = """
    insert into ingest.requests (workspace_id, request_id, channel, body_hash, job_id, accepted_at)
    select * from unnest(%b::uuid[], %b::text[], %b::text[], %b::bytea[], %b::uuid[],
        %b::timestamptz[])
    order by 1, 2, 3
    on conflict (workspace_id, channel, request_id) do nothing
"""
READ_ENTRIES = """
    select r.workspace_id, r.request_id, r.channel,
        r.body_hash, r.job_id, r.accepted_at, r.state = 'committed', r.decision, r.answer
    from ingest.requests r
    join unnest(%b::uuid[], %b::text[], %b::text[])
        as requested(workspace_id, request_id, channel) using (workspace_id, request_id, channel)
"""
# The first decision counts, because another replica may process the same request
STORE_DECISION = """
    update ingest.requests set decision = coalesce(decision, %b)
    where (workspace_id, request_id, channel) = (%b, %b, %b) and job_id = %b and state = 'pending'
    returning decision
"""

# The primary key decides the race of two first attempts, and the row's lock that of two attempts
# that take an expired lease. Nothing was appended before there is a decision, so until then the
# attempt gets an id and a time of its own
BEGIN = """
    insert into ingest.requests as r (
        workspace_id, request_id, channel, body_hash, job_id, accepted_at, busy_until
    ) values (%b, %b, %b, %b, %b, %b, now() + %b)
    on conflict (workspace_id, channel, request_id) do update set
        busy_until = excluded.busy_until,
        job_id = case when r.decision is null then excluded.job_id else r.job_id end,
        accepted_at = case when r.decision is null then excluded.accepted_at else r.accepted_at end
    where r.state = 'pending' and r.body_hash = excluded.body_hash
        and (r.busy_until is null or r.busy_until <= now())
    returning busy_until
"""
# These three statements do nothing if another attempt has taken the lease
STORE_DECISION_OF_ATTEMPT = """
    update ingest.requests set decision = %b, busy_until = now() + %b
    where (workspace_id, request_id, channel) = (%b, %b, %b) and busy_until = %b
    returning busy_until
"""
RELEASE = """
    update ingest.requests set busy_until = null
    where (workspace_id, request_id, channel) = (%b, %b, %b) and busy_until = %b
"""
FORGET = """
    delete from ingest.requests
    where (workspace_id, request_id, channel) = (%b, %b, %b) and busy_until = %b
"""
# Needs no lease: the job's records are in Kafka, whichever attempt appended them
COMPLETE = """
    update ingest.requests
    set state = 'committed', decision = null, busy_until = null, answer = %b
    where (workspace_id, request_id, channel) = (%b, %b, %b) and job_id = %b
"""
# Index requests_to_delete. Replicas share the work. With the key instead of ctid, Postgres would
# read the whole table
DELETE_OLD = """
    delete from ingest.requests where ctid = any(array(
        select ctid from ingest.requests
        where channel in ('http', 'retry') and accepted_at < now() - %b::interval
            and (busy_until is null or busy_until < now())
        order by accepted_at limit %b for update skip locked
    ))
"""


class PostgresRequestLedger:
    """The ledger of requests in Postgres. All methods raise DatabaseUnavailable.

    `claim`, `store_decision` and `mark_committed` are for requests by topic: Kafka delivers them
    again until they are committed, so any process may append them. The other methods are for
    requests over HTTP: each belongs to one attempt at a time, which has a lease on its key.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, claims: Sequence[Claim]) -> dict[RequestKey, LedgerEntry]:
        """Stores the claims of new keys and returns the entry of every key, in one round trip.

        The first of two claims of one key counts.
        """
        first: dict[RequestKey, Claim] = {}
        for claim in claims:
            first.setdefault(claim.key, claim)
        keys = [list(column) for column in zip(*map(_key_values, first), strict=True)]
        rest = [
            [claim[column] for claim in first.values()] for column in range(1, len(Claim._fields))
        ]
        async with self._database.pipeline() as driver:
            await driver.execute(CLAIM, [*keys, *rest])
            cursor = await driver.execute(READ_ENTRIES, keys, binary=True)
            await driver.commit()
            entries = {tuple(row[:3]): LedgerEntry(*row[3:]) for row in await cursor.fetchall()}
        return {key: entries[_key_values(key)] for key in first if _key_values(key) in entries}

    async def store_decision(self, key: RequestKey, job_id: UUID, decision: bytes) -> bytes | None:
        """Stores the decision of a claim.

        Returns the decision that was stored first, or None if the request is committed. Raises
        DatabaseUnavailable if the claim is missing or belongs to another job. Then Postgres was
        replaced by an older copy, and the request must be claimed again.
        """
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(
                STORE_DECISION, [decision, *_key_values(key), job_id], binary=True
            )
            await driver.commit()
            rows = await cursor.fetchall()
        if rows:
            return bytes(rows[0][0])
        is_request = _KEY.in_([_key_values(key)])
        request = await self._database.fetch_first(select(requests.c.state).where(is_request))
        if request is None or request["state"] == "pending":
            raise DatabaseUnavailable(
                f"The claim of request {key.request_id} is missing in Postgres. "
                "The batch claims it again."
            )
        return None

    async def mark_committed(self, keys: Collection[RequestKey]) -> None:
        """Marks requests whose records are in Kafka and deletes their decisions."""
        statement = update(requests).where(_KEY.in_([_key_values(key) for key in keys]))
        async with self._database.transaction() as connection:
            await connection.execute(statement.values(state="committed", decision=None))

    async def begin(self, claim: Claim, lease: timedelta) -> LeasedEntry | None:
        """Begins an attempt at a request: claims a new key, or takes a lease that has ended.

        Returns None if the entry is deleted at this moment.
        """
        key = _key_values(claim.key)
        values = [*key, claim.body_hash, claim.job_id, claim.accepted_at, lease]
        async with self._database.pipeline() as driver:
            beginning = await driver.execute(BEGIN, values, binary=True)
            reading = await driver.execute(READ_ENTRIES, [[value] for value in key], binary=True)
            await driver.commit()
            leases, entries = await beginning.fetchall(), await reading.fetchall()
        if not entries:
            return None
        return LeasedEntry(LedgerEntry(*entries[0][3:]), leases[0][0] if leases else None)

    async def keep_decision(
        self, key: RequestKey, lease_end: datetime, decision: bytes, lease: timedelta
    ) -> datetime | None:
        """Stores the decision of an attempt and renews its lease.

        Returns the new lease, or None if the attempt has lost its lease to another one.
        """
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(
                STORE_DECISION_OF_ATTEMPT,
                [decision, lease, *_key_values(key), lease_end],
                binary=True,
            )
            await driver.commit()
            rows = await cursor.fetchall()
        return rows[0][0] if rows else None

    async def release(self, key: RequestKey, lease_end: datetime) -> None:
        """Ends the lease of an attempt that may have appended the import."""
        await self._execute(RELEASE, [*_key_values(key), lease_end])

    async def forget(self, key: RequestKey, lease_end: datetime) -> None:
        """Deletes the claim of an attempt after which Kafka certainly does not have the import."""
        await self._execute(FORGET, [*_key_values(key), lease_end])

    async def complete(self, key: RequestKey, job_id: UUID, answer: bytes) -> None:
        """Marks a request whose import is in Kafka, and stores its answer."""
        await self._execute(COMPLETE, [answer, *_key_values(key), job_id])

    async def delete_old(self, retention: timedelta, limit: int) -> int:
        """Deletes at most `limit` entries of requests over HTTP that are older than `retention`.

        Returns their number.
        """
        return await self._execute(DELETE_OLD, [retention, limit])

    async def _execute(self, statement: str, values: Sequence[object]) -> int:
        async with self._database.pipeline() as driver:
            cursor = await driver.execute(statement, values)
            await driver.commit()
        return cursor.rowcount


_KEY = tuple_(requests.c.workspace_id, requests.c.request_id, requests.c.channel)


def _key_values(key: RequestKey) -> tuple[UUID, str, str]:
    # psycopg would send an enumeration by its name
    return key.workspace_id, key.request_id, key.channel.value
