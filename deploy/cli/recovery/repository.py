"""Runs all SQL of a recovery, as the database's owner."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.cli.recovery.comparison import AcceptedLoss
from deploy.cli.recovery.lost_rows import (
    LOST,
    CreatedPin,
    RecordedOutcome,
    UnfinishedJob,
)
from deploy.cli.recovery.positions import PositionOwner
from deploy.cli.recovery.summary import LostPin, UnfinishedJobs
from deploy.cli.row_id import RowId
from shared.contract.errors import PinflowError
from shared.contract.events import ExistingState, FieldDifference, RowStatus
from shared.contract.topics import TopicName
from shared.kafka.positions.rules import Refusal, StoredPosition
from shared.postgres.database import Database

MIGRATED = text(
    """
    select bool_and(to_regclass(name || '.positions') is not null)
        and to_regclass('publisher.delivery_losses') is not null as is_migrated
    from unnest(cast(:schemas as text[])) as name
    """,
)

# In the order of the SQL function hold_positions, or a batch and a recovery would deadlock
LOCK = """
    select topic, partition, next_offset, cluster_id, replay_until, refused from {}.positions
    where topic = any(:topics) order by topic, partition for update
"""
ACCEPT = """
    update {}.positions set
        next_offset = :next_offset, cluster_id = :cluster_id, refused = null, replay_until = null,
        updated_at = now()
    where topic = :topic and partition = :partition
"""
DELETE = "delete from {}.positions where topic = :topic and partition = :partition"

# A job without accepted_at has results, but no import yet. The API does not show it
UNFINISHED = text("""
    select job_id, accepted_at, total_rows - created_rows - existing_rows - failed_rows as open_rows
    from status.jobs where completed_at is null order by accepted_at nulls last, job_id
""")
JOBS = text("""
    select job_id, workspace_id, accepted_at, total_rows, settled::text from status.jobs
    where completed_at is null and accepted_at < now() - :age order by accepted_at, job_id
""")
JOBS_AGAIN = text("""
    select job_id, workspace_id, accepted_at, total_rows, settled::text from status.jobs
    where completed_at is null and job_id = any(:job_ids) order by accepted_at, job_id
""")
RECORDED = text("""
    select job_id, row_number, status, pin_id, schedule_id, payload_matches, error_code,
        error_message, existing_state, differing_fields
    from publisher.row_outcomes where job_id = any(:job_ids)
""")
# A pin's created_at is its import's accepted_at plus row_number microseconds. With it, the index
# of a workspace's pins finds the pin
PINS = text("""
    select p.origin_job_id, p.origin_row, p.pin_id, p.idempotency_key, p.run_at
    from unnest(
        cast(:job_ids as uuid[]), cast(:workspace_ids as uuid[]), cast(:times as timestamptz[])
    ) as j (job_id, workspace_id, accepted_at)
    join publisher.pins p on p.workspace_id = j.workspace_id and p.origin_job_id = j.job_id
        and p.created_at between j.accepted_at and j.accepted_at + interval '1 millisecond'
""")
RECORD = text("""
    insert into publisher.row_outcomes (job_id, row_number, status, error_code, error_message)
    values (:job_id, :row_number, 'failed', :error_code, :error_message)
""")

# Attempts that were read from Kafka and whose pin Postgres lacks
LOST_PINS = text("""
    select distinct on (a.pin_id) a.pinterest_pin_id, a.pin_id, a.workspace_id, a.account_id,
        a.board_id, a.texts ->> 'title' as title
    from publisher.delivery_attempts a
    where not a.is_applied and a.pinterest_pin_id is not null
        and not exists (select from publisher.pins p where p.pin_id = a.pin_id)
    order by a.pin_id, a.started_at desc
""")
# A position's time is at most 15 s old while the delivery process runs. Records that were written
# after it may be lost. The margin covers transactions that began before it
DELIVERY_LOSS = text("""
    insert into publisher.delivery_losses (since)
    select min(updated_at) - interval '30 seconds' from publisher.positions
    where topic = :topic and partition = any(cast(:partitions as integer[]))
    having min(updated_at) is not null
""")

# Idempotency keys of rows that are recorded as created but have no pin: a restored Postgres lacks
# the pin, and Kafka lost the row, so the row can't be published again
RESERVED_WITHOUT_PIN = """
    promised_pin_id is not null
    and not exists (select from publisher.pins p where p.pin_id = promised_pin_id)
"""
COUNT_RESERVED_KEYS = text(
    f"select count(*) as keys from publisher.row_outcomes where {RESERVED_WITHOUT_PIN}"
)
FREE_RESERVED_KEYS = text(
    f"update publisher.row_outcomes set promised_pin_id = null where {RESERVED_WITHOUT_PIN}"
)


_decode_differences = msgspec.json.Decoder(list[FieldDifference]).decode


class NotMigrated(PinflowError):
    """The database lacks tables of positions or losses, because it was not migrated."""


class RecoveryRepository:
    """Reads positions, unfinished jobs and reserved keys. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def require_positions(self) -> None:
        """Raises NotMigrated if a service's table of positions is missing."""
        answer = await self._database.fetch_first(MIGRATED.bindparams(schemas=list(PositionOwner)))
        if answer is None or not answer["is_migrated"]:
            raise NotMigrated

    async def read_unfinished(self) -> UnfinishedJobs:
        """Reads the jobs that have not ended."""
        jobs = await self._database.fetch_all(UNFINISHED)
        accepted = [job for job in jobs if job["accepted_at"] is not None]
        return UnfinishedJobs(
            rows=sum(job["open_rows"] for job in accepted),
            job_ids=[job["job_id"] for job in accepted],
            without_import=len(jobs) - len(accepted),
        )

    async def read_lost_pins(self) -> list[LostPin]:
        """Reads the pins that are on Pinterest, and that Postgres lost."""
        return [LostPin(**row) for row in await self._database.fetch_all(LOST_PINS)]

    async def count_reserved_keys(self) -> int:
        """Counts the idempotency keys that are reserved for rows that Kafka lost."""
        row = await self._database.fetch_first(COUNT_RESERVED_KEYS)
        return int(row["keys"]) if row else 0

    async def read_jobs_older_than(self, age: timedelta) -> list[UnfinishedJob]:
        """Reads the unfinished jobs whose import was accepted longer than `age` ago."""
        return [
            UnfinishedJob(**job) for job in await self._database.fetch_all(JOBS.bindparams(age=age))
        ]


async def lock_positions(
    connection: AsyncConnection,
    service: PositionOwner,
    topics: Collection[str],
) -> dict[TopicPartition, StoredPosition]:
    """Locks and reads a service's positions until the transaction ends."""
    rows = await connection.execute(text(LOCK.format(service)), {"topics": list(topics)})
    return {
        TopicPartition(row.topic, row.partition): StoredPosition(
            row.next_offset,
            row.cluster_id,
            row.replay_until,
            Refusal(row.refused) if row.refused else None,
        )
        for row in rows
    }


async def record_delivery_loss(
    connection: AsyncConnection, accepted: Iterable[AcceptedLoss]
) -> None:
    """Tells the delivery process which time the losses in `deliveries` concern.

    Call it before `accept`, which changes the positions' times.
    """
    losses = [loss.comparison for loss in accepted]
    partitions = [loss.partition for loss in losses if loss.topic is TopicName.DELIVERIES]
    if partitions:
        topic = next(loss.topic_name for loss in losses if loss.topic is TopicName.DELIVERIES)
        await connection.execute(DELIVERY_LOSS, {"topic": topic, "partitions": partitions})


async def accept(
    connection: AsyncConnection,
    service: PositionOwner,
    accepted: Iterable[AcceptedLoss],
    cluster_id: str,
) -> None:
    """Writes the new positions. Deletes the positions in partitions that Kafka does not have."""
    for loss in accepted:
        where: dict[str, Any] = {
            "topic": loss.comparison.topic_name,
            "partition": loss.comparison.partition,
        }
        if loss.next_offset is None:
            await connection.execute(text(DELETE.format(service)), where)
        else:
            values = {**where, "next_offset": loss.next_offset, "cluster_id": cluster_id}
            await connection.execute(text(ACCEPT.format(service)), values)


async def read_jobs(connection: AsyncConnection, job_ids: Sequence[UUID]) -> list[UnfinishedJob]:
    """Reads the jobs again, without those that have ended."""
    rows = await connection.execute(JOBS_AGAIN, {"job_ids": list(job_ids)})
    return [UnfinishedJob(**row) for row in rows.mappings()]


async def read_recorded_outcomes(
    connection: AsyncConnection,
    job_ids: Sequence[UUID],
) -> dict[RowId, RecordedOutcome]:
    """Reads the outcomes that the publisher has recorded for these jobs."""
    rows = await connection.execute(RECORDED, {"job_ids": list(job_ids)})
    return {
        RowId(row.job_id, row.row_number): RecordedOutcome(
            RowStatus(row.status),
            row.pin_id,
            row.schedule_id,
            row.payload_matches,
            row.error_code,
            row.error_message,
            None if row.existing_state is None else ExistingState(row.existing_state),
            None if row.differing_fields is None else _decode_differences(row.differing_fields),
        )
        for row in rows
    }


async def read_pins(
    connection: AsyncConnection, jobs: Sequence[UnfinishedJob]
) -> dict[RowId, CreatedPin]:
    """Reads the pins that were created for rows of these jobs."""
    values: Mapping[str, list[UUID] | list[datetime]] = {
        "job_ids": [job.job_id for job in jobs],
        "workspace_ids": [job.workspace_id for job in jobs],
        "times": [job.accepted_at for job in jobs],
    }
    rows = await connection.execute(PINS, values)
    pins: dict[RowId, CreatedPin] = {}
    for row in rows:
        pin = CreatedPin(row.pin_id, row.idempotency_key, row.run_at)
        pins[RowId(row.origin_job_id, row.origin_row)] = pin
    return pins


async def record_lost(connection: AsyncConnection, rows: Iterable[RowId]) -> None:
    """Records rows as lost. They stay failed, even if Kafka has them again later."""
    error = {"error_code": LOST.error_code, "error_message": LOST.error_message}
    values = [{**row._asdict(), **error} for row in rows]
    if values:
        await connection.execute(RECORD, values)


async def free_reserved_keys(connection: AsyncConnection) -> int:
    """Frees the idempotency keys that are reserved for rows that Kafka lost.

    Returns their number. The rows keep their outcome, because it was reported.
    """
    return (await connection.execute(FREE_RESERVED_KEYS)).rowcount
